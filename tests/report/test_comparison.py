"""Comparison of folders of runs: differences by hand, changed settings, table formats."""

import json
from statistics import mean

import pytest
from factories.runs import forge_json, write_run
from scipy import stats

from unimos_pipe.base.errors import InputError
from unimos_pipe.report.comparison import compare_runs
from unimos_pipe.report.find_runs import find_runs
from unimos_pipe.report.setting_names import shorten_paths

PAIRS = ("dark->light", "light->dark", "dark->grey")


@pytest.fixture
def folders(tmp_path):
    """before/icons and after/icons: three pairs and two seeds each, after with one pair more and another option."""
    for name, gain, extra in (("before", 0.0, ()), ("after", 0.03, ("grey->dark",))):
        for number, pair in enumerate((*PAIRS, *extra)):
            for seed in (0, 1):
                last = 0.6 + 0.05 * number + 0.01 * seed + gain * (1 + number / 2)
                write_run(tmp_path / name / "icons", pair, seed=seed, last=last)
    return tmp_path / "before" / "icons", tmp_path / "after" / "icons"


def test_differences_over_common_pairs(folders):
    comparison = compare_runs(folders)
    assert comparison.names == ("before/icons", "after/icons")
    (row,) = comparison.rows
    gains = [0.03, 0.045, 0.06]
    assert (row["setting"], row["pairs"]) == ("UniMoS", 3) and comparison.skipped == ()
    assert row["means"] == pytest.approx([0.655, 0.7])
    test = stats.ttest_1samp(gains, 0)
    (difference,) = row["differences"]
    assert difference["mean"] == pytest.approx(mean(gains))
    assert difference["interval"] == pytest.approx(tuple(test.confidence_interval()))
    assert difference["p"] == pytest.approx(test.pvalue) == difference["p_holm"]
    assert difference["p_wilcoxon"] == pytest.approx(stats.wilcoxon(gains).pvalue)
    assert [cell.text for cell in comparison.table.rows[0]] == [
        *("UniMoS", "3", "2 / 2", "65.5 ± 0.7", "70.0 ± 0.7", "+4.5* [0.8, 8.2]")
    ]
    assert comparison.changes == ()


def test_changed_settings_and_code_are_named(folders):
    def change(config):
        config["spec"]["options"]["loss"]["alpha"] = 0.5
        config["code"] = {"unimos_pipe.methods.unimos.step": "b" * 16}

    for path in folders[1].rglob("config.json"):
        forge_json(path.parent, "config.json", change)
    for path in folders[0].rglob("config.json"):
        forge_json(
            path.parent, "config.json", lambda config: config.update(code={"unimos_pipe.methods.unimos.step": "a" * 16})
        )
    assert compare_runs(folders).changes == (
        ("UniMoS: loss.alpha", ("1.0", "0.5")),
        ("UniMoS: code of unimos_pipe.methods.unimos.step", ("a" * 16, "b" * 16)),
    )


def test_the_command_prints_and_writes_the_table(cli, folders, tmp_path):
    answer = cli("compare", *folders, "--out", tmp_path / "table.tex")
    assert answer.code == 0 and "+4.5* [0.8, 8.2]" in answer.out
    assert answer.out.splitlines()[-1] == "settings, encoder, versions and code are the same"
    assert r"after/icons $-$ before/icons" in (tmp_path / "table.tex").read_text()
    document = json.loads(cli("compare", *folders, "--json").out)
    assert document["rows"][0]["differences"][0]["mean"] == pytest.approx(0.045)
    refused = cli("compare", *folders, "--out", tmp_path / "table.pdf")
    assert refused.code == 2 and "a name that ends in .md, .csv, .tex" in refused.err


def test_what_cannot_be_compared_is_refused(folders, tmp_path):
    with pytest.raises(InputError, match="two or more folders"):
        compare_runs(folders[:1])
    write_run(tmp_path / "other", "a->b", dataset="elsewhere")
    with pytest.raises(InputError, match="no common data set with target labels"):
        compare_runs([folders[0], tmp_path / "other"])
    write_run(tmp_path / "apart", "x->y")
    with pytest.raises(InputError, match="no common pair of domains"):
        compare_runs([folders[0], tmp_path / "apart"])


def test_two_folders_of_one_name_are_told_apart_in_a_report(folders):
    experiments, _ = find_runs(folders)
    titles = [experiment.title for experiment in experiments]
    assert [title[title.index(" (") :] for title in titles] == [" (before/icons)", " (after/icons)"]
    assert shorten_paths([folders[0]]) == ("icons",)


def test_merged_classes_are_named(tmp_path):
    for name, classes in (("before", ("circle", "square", "bar")), ("after", ("circle", "bar"))):
        write_run(tmp_path / name, classes=classes)
    assert compare_runs((tmp_path / "before", tmp_path / "after")).changes == (
        ("UniMoS: classes", ("3 (circle, square, bar)", "2 (circle, bar)")),
    )
