"""Headline settings and display names: no configuration of a grid is shown as the method itself."""

import json

import pytest
from factories.runs import write_run

from unimos_pipe.report.find_runs import find_runs
from unimos_pipe.report.headline import headline
from unimos_pipe.report.method_tables import settings_table
from unimos_pipe.report.published_tables import PublishedResults
from unimos_pipe.report.summary_tiles import summary_tiles


def grid(root, *alphas: float, recipe: dict | None = None, **options):
    for alpha in alphas:
        changed = {} if alpha == 1.0 else {"loss.alpha": alpha}
        write_run(root, changed=changed, last=0.7 + alpha / 100, **options)
    if recipe:
        (root / "recipe.json").write_text(json.dumps(recipe))
    return find_runs([root])[0][0]


def test_the_default_cell_is_the_headline_and_is_named(tmp_path):
    found = grid(tmp_path, 0.1, 1.0, 2.5)
    assert found.headline_settings == ["full"] and found.default_setting_name == "UniMoS, alpha=1.0"
    assert headline(found, PublishedResults()).columns[1] == "UniMoS, alpha=1.0"
    assert [(tile.name, tile.text) for tile in summary_tiles(found)][:2] == [
        ("UniMoS, alpha=1.0", "71.0"),
        ("zero-shot", "60.0"),
    ]
    assert found.display_names["full,alpha=0.1"] == "UniMoS, alpha=0.1"


def test_a_recipes_own_setting_is_its_default(tmp_path):
    found = grid(tmp_path, 0.1, 1.0, recipe={"name": "r", "options": {"loss": {"alpha": 0.1}}})
    assert found.default_setting_name == "UniMoS, alpha=0.1"


def test_without_the_default_cell_every_cell_has_its_rows(tmp_path):
    for pair in ("dark->light", "light->dark"):
        grid(tmp_path, 0.1, 2.5, pair=pair)
    found = find_runs([tmp_path])[0][0]
    table = headline(found, PublishedResults())
    assert table.columns[:2] == ("setting and pair", "UniMoS")
    assert [[cell.text for cell in row[:2]] for row in (*table.rows, *table.footer)] == [
        ["UniMoS, alpha=0.1: dark → light", "70.1"],
        ["UniMoS, alpha=0.1: light → dark", "70.1"],
        ["UniMoS, alpha=2.5: dark → light", "72.5"],
        ["UniMoS, alpha=2.5: light → dark", "72.5"],
        ["UniMoS, alpha=0.1: mean of 2", "70.1"],
        ["UniMoS, alpha=2.5: mean of 2", "72.5"],
    ]
    assert table.caption.endswith("No run has the default setting, so all settings are shown.")
    assert next((tile.name, tile.text) for tile in summary_tiles(found)) == ("UniMoS, 2 settings", "70.1 to 72.5")


def test_what_all_runs_share_is_not_named(tmp_path):
    write_run(tmp_path, changed={"train.epochs": 2})
    write_run(tmp_path, changed={"train.epochs": 2}, variant="no-im")
    write_run(tmp_path, method="fused")
    found = find_runs([tmp_path])[0][0]
    assert list(found.display_names.values()) == ["UniMoS", "UniMoS, no-im", "fused"]


@pytest.mark.parametrize("order, main", [(["fused", "gda", "zero-shot"], "fused"), (["zero-shot", "gda"], "gda")])
def test_of_other_methods_the_first_that_is_no_baseline(order, main, tmp_path):
    for method in order:
        write_run(tmp_path, method=method)
    (tmp_path / "recipe.json").write_text(json.dumps({"name": "r", "methods": order}))
    assert find_runs([tmp_path])[0][0].default_setting_name == main


def test_runs_that_the_headline_lacks_stand_in_the_table_of_settings(tmp_path):
    write_run(tmp_path, seed=0)
    write_run(tmp_path, seed=1)
    write_run(tmp_path, "light->dark", changed={"loss.alpha": 0.1}, last=0.65)
    table = settings_table(find_runs([tmp_path])[0][0])
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["UniMoS, alpha=1.0", "1", "2", "2", "70.0 ± 0.0", "60.0", "–", "+10.0 [10.0, 10.0]"],
        ["UniMoS, alpha=0.1", "1", "1", "1", "65.0", "60.0", "–", "+5.0"],
    ]


def test_unequal_seeds_are_named(tmp_path):
    for pair, seeds in (("dark->light", 3), ("light->dark", 1), ("dark->grey", 3)):
        for seed in range(seeds):
            write_run(tmp_path, pair, seed=seed)
    write_run(tmp_path, method="fused")  # runs once by nature
    how = headline(find_runs([tmp_path])[0][0], PublishedResults()).caption
    assert how.endswith("Seeds differ: 0, 1, 2, except for UniMoS on light → dark: 0.")


def test_labelled_and_unlabelled_targets_are_shown_apart(tmp_path):
    write_run(tmp_path)
    write_run(tmp_path, "light->dark", labelled=False)
    start = f"mini, tinyclip-r24-64 ({tmp_path.name}, tinyclip-r24-64"
    assert [(found.title, found.pairs) for found in find_runs([tmp_path])[0]] == [
        (f"{start}, with labels)", ["dark->light"]),
        (f"{start}, without labels)", ["light->dark"]),
    ]


def test_runs_of_merged_classes_are_shown_apart(tmp_path):
    write_run(tmp_path)
    write_run(tmp_path, seed=1, classes=("circle", "bar"))
    start = f"mini, tinyclip-r24-64 ({tmp_path.name}, tinyclip-r24-64"
    assert [found.title for found in find_runs([tmp_path])[0]] == [
        f"{start}, 3 classes, with labels)",
        f"{start}, 2 classes, with labels)",
    ]
