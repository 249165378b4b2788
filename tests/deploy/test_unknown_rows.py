"""Rows of none of the classes, from adapt to predict, exports and Python."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from factories.runs import run_spec
from factories.tasks import random_task
from safetensors.torch import load_file, save_file

import unimos_pipe
from unimos_pipe.base.errors import InputError
from unimos_pipe.deploy.predictions import concatenate, with_errors
from unimos_pipe.evaluation.diagnostics import PairReferenceCache
from unimos_pipe.methods.accuracy_estimate import find_nearest_rows
from unimos_pipe.methods.stacked import fit_stacked
from unimos_pipe.methods.task import HeldOutLabels, LabelledFeatures, PairData
from unimos_pipe.methods.unknown_score import find_unknown_rows
from unimos_pipe.runs.run_spec import RunSpec
from unimos_pipe.training.unknown_rows import check_unknown, find_run_unknowns

PAIR = ("--dataset", "icons", "--src", "line", "--tgt", "sketch")


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(cli, icons_cache, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unknown") / "run"
    answer = cli("adapt", *PAIR, "--method", "fused", "--unknown", "auto", "--cache", icons_cache, "--out", folder)
    share = json.loads((folder / "result.json").read_text())["unknown"]["share"]
    line = f"  (unknown): {round(716 * share)} of 716 images, {100 * share:.1f}%, look like none of the classes\n"
    assert answer.code == 0 and line in answer.out, answer.err
    return folder


def test_a_run_marks_unknown_rows_and_keeps_their_most_likely_class(run, icons_cache):
    rows, values = rows_of(run / "predictions.csv"), json.loads((run / "result.json").read_text())["unknown"]
    unknown = [float(row["unknown_score"]) >= values["threshold"] for row in rows]
    known = [row["known_class"] for row in rows]
    assert [row["class"] for row in rows] == ["(unknown)" if u else k for u, k in zip(unknown, known, strict=True)]
    assert sum(unknown) / len(rows) == pytest.approx(values["share"])
    right = sum(name == row["label"] for name, row in zip(known, rows, strict=True))
    assert json.loads((run / "result.json").read_text())["accuracy"]["last"]["accuracy"] == right / len(rows)
    data = unimos_pipe.make_task(unimos_pipe.feature_set("icons", cache=icons_cache), "line", "sketch").data
    stacked, nearest = fit_stacked(data.task).model, find_nearest_rows(data.task.target.features).nearest
    scores = find_unknown_rows(data.task, stacked, nearest).scores
    np.testing.assert_allclose([float(row["unknown_score"]) for row in rows], scores.cpu(), atol=1e-4)


def test_new_rows_are_scored_by_run_and_export(cli, run, icons_cache, tmp_path):
    """Scores of new rows are not averaged over neighbours, and as many of the same rows are unknown."""
    out, export = tmp_path / "out.csv", tmp_path / "model"
    assert cli("predict", "--run", run, "--domain", "sketch", "--cache", icons_cache, "-o", out).code == 0
    answer = cli("export", "--run", run, "--out", export, "--onnx")
    assert answer.code == 0, answer.err
    assert (
        cli("predict", "--run", export, "--domain", "sketch", "--cache", icons_cache, "-o", tmp_path / "b.csv").code
        == 0
    )
    assert (tmp_path / "b.csv").read_text() == out.read_text()
    rows = rows_of(out)
    names = ["path", "class", "probability", "raw_probability", "unknown_score", "known_class"]
    assert list(rows[0]) == names
    threshold = float(load_file(run / "heads.safetensors")["unknown.threshold"])
    unknown = [float(row["unknown_score"]) >= threshold for row in rows]
    assert [row["class"] == "(unknown)" for row in rows] == unknown
    fitted = [row["class"] == "(unknown)" for row in rows_of(run / "predictions.csv")]
    assert abs(sum(unknown) - sum(fitted)) <= 1 and sum(np.array(unknown) & fitted) > 0.7 * sum(fitted)
    assert "or (unknown) for an image that looks like none of them" in (export / "README.md").read_text()
    import onnxruntime

    session = onnxruntime.InferenceSession(export / "heads.onnx", providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["probabilities", "raw", "unknown_score"]


def test_python_gives_unknown_images_a_class_of_their_own(run):
    model = unimos_pipe.load(run, "cpu")
    rows = torch.cat([model.text[:2], -model.text.mean(0, keepdim=True)])
    predictions = model.predict_features(rows)
    assert predictions.unknown.tolist() == [False, False, True]
    assert predictions.labels == [*predictions.known_labels[:2], "(unknown)"]
    record = predictions.records()[2]
    assert list(record) == ["class", "probability", "raw_probability", "unknown_score", "known_class", "error"]
    assert record["class"] == "(unknown)" and record["known_class"] in model.classes
    spread = with_errors(predictions, [None, "torn", None, None])
    assert spread.labels[1] is None and spread.labels[3] == "(unknown)"
    assert spread.records()[1]["unknown_score"] is None
    assert concatenate([predictions, spread]).unknown.tolist() == [False, False, True, False, False, False, True]


def test_scorers_of_edited_exports_are_checked(run, tmp_path):
    model = unimos_pipe.load(run, "cpu")
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    for change, expected in (
        ({"unknown.bias": torch.full((36,), torch.nan)}, ": expected finite values, got unknown.bias with others"),
        ({"unknown.bias": torch.zeros(3)}, " of unknown scores: expected each, of fitting shapes, got others"),
    ):
        save_file(state | change, tmp_path / "model.safetensors")
        with pytest.raises(InputError, match=f"^the model's tensors{re.escape(expected)}$"):
            unimos_pipe.load(tmp_path, "cpu", allow_edited=True)


def made_spec(unknown: str) -> RunSpec:
    return run_spec(source="s", target="t", unknown=unknown)


def test_test_rows_of_an_inductive_run_are_new_rows():
    task = random_task()
    test_rows = random_task(target=20, seed=1).target.features
    held_out = HeldOutLabels(None, tuple("abcde"), features=test_rows)
    data = PairData(task, held_out, ("p",) * 20, None, {}, [])
    reference = PairReferenceCache().get(data)
    unknowns = find_run_unknowns(made_spec("0.25"), data, reference)
    nearest = find_nearest_rows(task.target.features).nearest
    scorer = find_unknown_rows(task, reference.stacked, nearest, 0.25).scorer
    assert torch.equal(unknowns.scores, scorer.score(test_rows)) and unknowns.values.threshold == float(
        scorer.threshold
    )
    assert find_run_unknowns(made_spec("off"), data, reference) is None


def test_a_source_of_one_class_and_wrong_values_are_refused():
    task = random_task()
    one = replace(task, source=LabelledFeatures(task.source.features, torch.zeros(40, dtype=torch.int64)))
    data = PairData(one, HeldOutLabels(None, ()), (), None, {}, [])
    with pytest.raises(InputError) as error:
        check_unknown(made_spec("auto"), data)
    assert str(error.value) == "unknown: the source has rows of one class: expected at least 2 classes"
    check_unknown(made_spec("off"), data)
    for value in ("1", "-0.1", "few", "nan"):
        with pytest.raises(
            InputError, match=f"^unknown: expected off, auto or a share from 0 to below 1, got '{value}'$"
        ):
            unimos_pipe.AdaptOptions(unknown=value).method_spec("transductive")


def test_a_run_is_named_after_its_option():
    assert [made_spec(value).label() for value in ("off", "auto", "0.2")] == [
        "full",
        "full,unknown",
        "full,unknown=0.2",
    ]
