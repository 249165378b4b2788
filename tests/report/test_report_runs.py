"""Finding runs: what counts, how it is grouped, what is left out and why."""

import json
import subprocess
import sys

import pytest
from made_runs import write_run

from unimos_pipe.base.errors import UserError
from unimos_pipe.report.runs import find_runs


def test_runs_are_grouped_by_root_and_ordered_by_recipe(tmp_path):
    root = tmp_path / "runs" / "mine"
    for variant in ("full", "no-im"):
        for seed in (1, 0):
            write_run(root, seed=seed, variant=variant)
    (root / "recipe.json").write_text(json.dumps({"name": "mine", "variants": ["no-im", "full"], "title": "T"}))
    (root / "baselines.json").write_text(json.dumps({"dark->light": {"source_only": 0.5}}))
    other = write_run(tmp_path / "runs" / "other", last=0.1)
    first, second = find_runs([tmp_path / "runs", other])[0]
    assert [(run.label, run.spec["seed"]) for run in first.runs] == [
        ("no-im", 0),
        ("no-im", 1),
        ("full", 0),
        ("full", 1),
    ]
    assert (first.main, first.labels, first.pairs) == ("full", ["full", "no-im"], ["dark->light"])
    assert first.baselines["dark->light"]["source_only"] == 0.5 and first.recipe["title"] == "T"
    assert second.measured("last") == [("dark->light", 0, 0.1)]


def test_pairs_come_in_the_data_sets_order_of_domains(tmp_path):
    for pair in ("sketch->line", "color->line", "line->sketch", "solid->line"):
        write_run(tmp_path, pair, dataset="icons")
    assert find_runs([tmp_path])[0][0].pairs == ["line->sketch", "solid->line", "color->line", "sketch->line"]


def test_folders_without_a_sound_result_are_named(tmp_path):
    write_run(tmp_path)
    unfinished, damaged, foreign = (write_run(tmp_path, seed=seed) for seed in (1, 2, 3))
    (unfinished / "result.json").unlink()
    (damaged / "result.json").write_text("{")
    config = json.loads((foreign / "config.json").read_text())
    del config["classes"]
    (foreign / "config.json").write_text(json.dumps(config))
    found, left_out = find_runs([tmp_path])
    assert len(found[0].runs) == 1
    assert left_out == [
        f"{unfinished}: unfinished",
        f"{damaged}: cannot be read (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))",
        f"{foreign}: config.json or result.json lacks 'classes'; written by another version?",
    ]


def test_nothing_to_report_and_two_runs_for_one_place_are_errors(tmp_path):
    with pytest.raises(UserError, match=r"no finished run in .*; adapt, sweep and demo make runs"):
        find_runs([tmp_path])
    with pytest.raises(UserError, match=r"nowhere is no folder; give the folder of a run"):
        find_runs([tmp_path / "nowhere"])
    folder = write_run(tmp_path / "a")
    (tmp_path / "b").mkdir()
    for name in ("x", "y"):
        folder.rename(tmp_path / "b" / name) if name == "x" else write_run(tmp_path / "c").rename(tmp_path / "b" / name)
    with pytest.raises(UserError, match=r"b/x and .*b/y are both dark->light, full, seed 0; name one of them"):
        find_runs([tmp_path / "b"])


def test_the_shown_pair_is_the_one_that_gained_most(tmp_path):
    write_run(tmp_path, "dark->light", last=0.7, zero_shot=0.6)
    write_run(tmp_path, "light->dark", last=0.65, zero_shot=0.4)
    experiment = find_runs([tmp_path])[0][0]
    assert experiment.shown_pair(None) == "light->dark"
    assert experiment.shown_pair("dark -> light") == "dark->light"
    with pytest.raises(UserError, match=r"--pair dark->blue: no full run of it; there are dark->light, light->dark"):
        experiment.shown_pair("dark->blue")


def test_damaged_files_are_named_when_they_are_needed(tmp_path):
    folder = write_run(tmp_path)
    (folder / "sample.safetensors").write_bytes(b"nonsense")
    (folder / "predictions.csv").write_text("path,class\n1.png,circle\n")
    run = find_runs([tmp_path])[0][0].runs[0]
    with pytest.raises(UserError, match=r"sample\.safetensors cannot be read .* Train the run again with --force"):
        run.tensors("target_image")
    with pytest.raises(UserError, match=r"predictions\.csv cannot be read \(expected the columns path, class"):
        _ = run.predictions


def test_a_report_needs_no_torch():
    code = "import sys, unimos_pipe.report.page, unimos_pipe.cli.main; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
