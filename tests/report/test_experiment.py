"""Finding and grouping of runs; reasons for skipped folders."""

import json
import subprocess
import sys

import pytest
from factories.runs import forge, forge_json, write_run

from unimos_pipe.base.errors import InputError
from unimos_pipe.report.find_runs import find_runs


def test_runs_are_grouped_by_root_and_ordered_by_recipe(tmp_path):
    root = tmp_path / "runs" / "mine"
    for variant in ("full", "no-im"):
        for seed in (1, 0):
            write_run(root, seed=seed, variant=variant)
    (root / "recipe.json").write_text(json.dumps({"name": "mine", "variants": ["no-im", "full"], "title": "T"}))
    (root / "baselines.json").write_text(json.dumps({"dark->light": {"source_only": 0.5}}))
    other = write_run(tmp_path / "runs" / "other", last=0.1)
    first, second = find_runs([tmp_path / "runs", other])[0]
    assert [(run.label, run.spec.seed) for run in first.runs] == [
        ("no-im", 0),
        ("no-im", 1),
        ("full", 0),
        ("full", 1),
    ]
    assert (first.default_setting, first.labels, first.pairs) == ("full", ["full", "no-im"], ["dark->light"])
    assert first.baselines == {"dark->light": 0.5} and first.recipe["title"] == "T"
    assert second.scores("last") == [("dark->light", 0, 0.1)]


def test_pairs_come_in_the_data_sets_order_of_domains(tmp_path):
    for pair in ("sketch->line", "color->line", "line->sketch", "solid->line"):
        write_run(tmp_path, pair, dataset="icons")
    assert find_runs([tmp_path])[0][0].pairs == ["line->sketch", "solid->line", "color->line", "sketch->line"]


def test_folders_without_a_sound_result_are_named(tmp_path):
    write_run(tmp_path)
    unfinished, damaged, edited, foreign, older = (write_run(tmp_path, seed=seed) for seed in range(1, 6))
    (unfinished / "result.json").unlink()
    (damaged / "result.json").write_text("{")
    result = (edited / "result.json").read_text()
    (edited / "result.json").write_text(result.replace('"accuracy": 0.7', '"accuracy": 0.99'))
    forge_json(foreign, "config.json", lambda config: config.pop("classes"))
    for name in ("config.json", "result.json"):
        values = json.loads((older / name).read_text())
        known = {key: value for key, value in values.items() if key not in ("kind", "schema", "files", "digest")}
        (older / name).write_text(json.dumps(known))
    experiments, skipped = find_runs([tmp_path])
    assert len(experiments[0].runs) == 1
    assert skipped == [
        f"{unfinished}: unfinished, it has no result.json",
        f"{damaged}: result.json cannot be read (Expecting property name enclosed in double quotes: line 1 column 2 "
        "(char 1))",
        f"{edited}: result.json is not what was written",
        f"{foreign}: config.json: classes is missing",
        f"{older}: it is of schema 1 and this version reads schema 2",
    ]


def test_nothing_to_report_and_two_runs_for_one_place_are_errors(tmp_path):
    with pytest.raises(InputError, match=r"no finished run in .*; adapt, sweep and demo make runs"):
        find_runs([tmp_path])
    with pytest.raises(InputError, match=r"nowhere is not a folder; pass the folder of a run"):
        find_runs([tmp_path / "nowhere"])
    folder = write_run(tmp_path / "a")
    (tmp_path / "b").mkdir()
    for name in ("x", "y"):
        folder.rename(tmp_path / "b" / name) if name == "x" else write_run(tmp_path / "c").rename(tmp_path / "b" / name)
    with pytest.raises(InputError, match=r"b/x and .*b/y are both dark->light, full, seed 0; pass only one of them"):
        find_runs([tmp_path / "b"])


def test_the_shown_pair_is_the_one_that_gained_most(tmp_path):
    write_run(tmp_path, "dark->light", last=0.7, zero_shot=0.6)
    write_run(tmp_path, "light->dark", last=0.65, zero_shot=0.4)
    experiment = find_runs([tmp_path])[0][0]
    assert experiment.choose_pair(None) == "light->dark"
    assert experiment.choose_pair("dark -> light") == "dark->light"
    with pytest.raises(InputError, match=r"pair dark->blue: no full run of it; there are dark->light, light->dark"):
        experiment.choose_pair("dark->blue")


def test_files_damaged_after_they_were_found_are_named_when_they_are_needed(tmp_path):
    folder = write_run(tmp_path)
    run = find_runs([tmp_path])[0][0].runs[0]
    (folder / "sample.safetensors").write_bytes(b"nonsense")
    (folder / "predictions.csv").unlink()
    with pytest.raises(InputError) as caught:
        run.tensors("target_image")
    found = "xxh3 01edcc66839f1f0c938cf5183d45c142"
    todo = "Train it again with force=True"
    assert str(caught.value) == (
        f"{folder} holds no complete run: sample.safetensors is not what was written, {found}. {todo}"
    )
    with pytest.raises(InputError) as caught:
        _ = run.predictions
    assert str(caught.value) == f"{folder} holds no complete run: predictions.csv is missing. {todo}"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"path,class\n1.png,circle\n", "expected the columns path, class, probability, vac, vac_probability, lac, "
         "lac_probability"),
        (b"path,class,probability,vac,vac_probability,lac,lac_probability\n1,a,1,a,1,a,1\n",
         "a class that config.json does not name"),
    ],
)  # fmt: skip
def test_tables_that_no_run_wrote_are_named(content, fault, tmp_path):
    forge(write_run(tmp_path), "predictions.csv", lambda _: content)
    run = find_runs([tmp_path])[0][0].runs[0]
    with pytest.raises(
        InputError, match=rf"holds no complete run: predictions\.csv cannot be read \({fault}\)\. Train"
    ):
        _ = run.predictions


def test_a_report_needs_no_torch():
    code = "import sys, unimos_pipe.report.page, unimos_pipe.cli.main; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
