"""What every run says of its answers: estimates from made answers, and facts that agree with the run's own files."""

import contextlib
import csv
import json
from dataclasses import replace

import pytest
import torch
from factories.tasks import random_task

from unimos_pipe.data.manifest import NO_LABEL
from unimos_pipe.evaluation import diagnostics
from unimos_pipe.evaluation.calibration import calibration_metrics
from unimos_pipe.evaluation.diagnostics import (
    REFERENCE_METHODS,
    PairReference,
    PairReferenceCache,
    label_free_metrics,
    run_diagnostics,
)
from unimos_pipe.methods.accuracy_estimate import NearestRows
from unimos_pipe.methods.base import LinearModel
from unimos_pipe.methods.task import AdaptationTask, HeldOutLabels, PairData
from unimos_pipe.runs.run_values import Calibration

NEAREST = torch.tensor([[1], [0], [3], [2]]).repeat(8, 1)
NEAREST += 4 * (torch.arange(32) // 4).unsqueeze(1)
ROWS = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64).repeat(8, 1)
STACKED = LinearModel(torch.log(torch.tensor([[1.0, 2.0, 1.0], [1.0, 1.0, 3.0]]).double()), torch.zeros(3))
VIEW = PairReference(
    ROWS,
    {
        "zero-shot": torch.tensor([0, 0, 0, 0]).repeat(8),
        "fused": torch.tensor([0, 0, 1, 1]).repeat(8),
        "stacked": torch.tensor([0, 0, 1, 2]).repeat(8),
    },
    NearestRows(torch.arange(32), NEAREST),
    torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64),
    STACKED,
)


def test_an_estimate_by_hand():
    """Half of the neighbours agree, o = 0.5; e = 0.5^2 + 2 0.25^2. Stacked gives 1/3, 1/3, 2/4 and 3/5."""
    classes, other = torch.tensor([0, 0, 1, 2]).repeat(8), torch.tensor([0, 1, 2, 2]).repeat(8)
    found = label_free_metrics(VIEW, classes, (classes, other), 0.9)
    neighbours, stacked = (0.5 - 0.375) / 0.625, (1 / 3 + 1 / 3 + 1 / 2 + 3 / 5) / 4
    assert found.neighbour_agreement == pytest.approx(neighbours)
    assert found.stacked_probability == pytest.approx(stacked)
    assert (found.accuracy, found.low, found.high, found.reason) == (
        None,
        None,
        None,
        "two estimates disagree, 20% and 44%",
    )
    assert found.agreement == {"zero-shot": 0.5, "fused": 0.75, "stacked": 1.0}
    assert found.outvoted == 0.0 and label_free_metrics(VIEW, other, None, 0.9).outvoted == 0.25
    assert (found.branches, found.confidence) == (0.5, 0.9)
    assert found.class_shares == (0.5, 0.25, 0.25) and found.total_variation == 0.0


def test_estimators_that_agree_give_their_mean():
    """Every pair of neighbours agrees, and stacked gives the classes nearly all: both are 1."""
    classes = VIEW.predictions["fused"]
    sure = replace(VIEW, stacked=LinearModel(torch.tensor([[0.0, 90, 0], [0, 90, 0]]), torch.tensor([40.0, 0, 0])))
    found = label_free_metrics(sure, classes, None, 0.9)
    assert found.neighbour_agreement == 1.0 and found.stacked_probability == pytest.approx(1)
    assert found.accuracy == pytest.approx(1) and found.low == pytest.approx(0.9) and found.high == 1.0
    assert found.reason is None


def test_a_source_of_one_class_leaves_zero_shot_alone():
    one_class = replace(VIEW, predictions={"zero-shot": VIEW.predictions["zero-shot"]}, stacked=None)
    found = label_free_metrics(one_class, torch.tensor([0, 0, 1, 2]).repeat(8), None, 0.9)
    assert (found.accuracy, found.stacked_probability, found.branches) == (None, None, None)
    assert found.reason == "the source has rows of one class"


def test_reliability_is_of_the_rows_whose_label_is_known():
    raw = torch.tensor([[0.9, 0.05, 0.05], [0.8, 0.1, 0.1], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]]).repeat(8, 1)
    flat = torch.full((32, 3), 1 / 3)
    held = HeldOutLabels(torch.tensor([0, NO_LABEL, 2, NO_LABEL] + [NO_LABEL] * 28).numpy(), ("a", "b", "c"))
    found = run_diagnostics(VIEW, held, raw, flat, Calibration(2.0, 8, 0.1))
    for name, values in (("raw", raw), ("calibrated", flat)):
        wanted = calibration_metrics(values[[0, 2]], torch.tensor([0, 2]))
        assert getattr(found["reliability"], name) == wanted
    assert found["calibration"] == Calibration(2.0, 8, 0.1, "source")
    assert found["estimate"].confidence == pytest.approx(1 / 3)
    unlabelled = run_diagnostics(VIEW, HeldOutLabels(None, ("a", "b", "c")), raw, raw, None)
    assert unlabelled["reliability"] is None and unlabelled["calibration"] is None


def test_pairs_that_share_a_source_share_its_probe(monkeypatch):
    first, other = random_task(seed=1), random_task(seed=2)
    pairs = [
        PairData(
            AdaptationTask(first.source, task.target, first.text_features), HeldOutLabels(None, ()), (), None, {}, []
        )
        for task in (first, other)
    ]
    alone = [PairReferenceCache().get(pair).predictions for pair in pairs]
    fitted, real = [], diagnostics.cross_fit
    monkeypatch.setattr(diagnostics, "cross_fit", lambda *args: fitted.append(args) or real(*args))
    views = PairReferenceCache()
    for pair, answers in zip(pairs, alone, strict=True):
        found = views.get(pair).predictions
        assert list(found) == list(REFERENCE_METHODS) and all(
            found[name].equal(answers[name]) for name in REFERENCE_METHODS
        )
    assert len(fitted) == 1


def test_what_estimates_need_is_computed_side_by_side(two_threads):
    """Three pairs of two sources and two targets: four parts, counted, and the references of pairs alone."""
    first, other = random_task(seed=1), random_task(seed=2)
    tasks = [(first, first), (first, other), (other, first)]
    pairs = [
        PairData(
            AdaptationTask(source.source, target.target, source.text_features),
            HeldOutLabels(None, ()),
            (),
            None,
            {},
            [],
        )
        for source, target in tasks
    ]
    totals, counts = [], []

    class Reporter:
        @contextlib.contextmanager
        def progress(self, label, total, unit):
            totals.append((label, total, unit))
            yield counts.append

    cache = PairReferenceCache()
    cache.load(pairs, 2, Reporter())
    cache.load(pairs, 2, Reporter())
    assert totals == [("estimates", 4, "fits")] and counts == [1, 1, 1, 1]
    for pair in pairs:
        loaded, alone = cache.get(pair), PairReferenceCache().get(pair)
        assert all(loaded.predictions[name].equal(alone.predictions[name]) for name in REFERENCE_METHODS)
        assert loaded.nearest.nearest.equal(alone.nearest.nearest) and loaded.probe.logits.equal(alone.probe.logits)


def test_pairs_of_one_target_are_answered_from_their_own_sources():
    """Three sources, two targets, each in two precisions: no pair gets the predictions of another."""
    dtypes = torch.float64, torch.float32
    tasks = [random_task(dim=4, seed=seed, dtype=dtype) for seed in range(3) for dtype in dtypes]
    pairs = [
        PairData(
            AdaptationTask(task.source, target.target, task.text_features), HeldOutLabels(None, ()), (), None, {}, []
        )
        for task in tasks
        for target in tasks[:4]
        if task.text_features.dtype == target.text_features.dtype
    ]
    alone = [PairReferenceCache().get(pair) for pair in pairs]
    cache = PairReferenceCache()
    for pair, wanted in zip(pairs, alone, strict=True):
        found = cache.get(pair)
        assert all(found.predictions[name].equal(wanted.predictions[name]) for name in REFERENCE_METHODS)
        assert found.nearest.nearest.equal(wanted.nearest.nearest) and found.source_shares.equal(wanted.source_shares)
    answers = {tuple(reference.predictions["fused"].tolist()) for reference in alone}
    assert len(answers) == 6 and len({tuple(reference.nearest.nearest.flatten().tolist()) for reference in alone}) >= 2


def test_a_run_of_unimos_says_what_is_known(cli, icons_cache, tmp_path):
    pair = ("--dataset", "icons", "--src", "line", "--tgt", "sketch", "--cache", icons_cache, "--epochs", 2)
    assert cli("adapt", *pair, "--no-calibrate", "--out", tmp_path / "unimos").code == 0
    assert cli("adapt", *pair[:-2], "--method", "fused", "--no-calibrate", "--out", tmp_path / "fused").code == 0
    results = {name: json.loads((tmp_path / name / "result.json").read_text()) for name in ("unimos", "fused")}
    rows = {name: list(csv.DictReader((tmp_path / name / "predictions.csv").open())) for name in results}
    found = results["unimos"]["estimate"]
    alike = [a["class"] == b["class"] for a, b in zip(*rows.values(), strict=True)]
    assert found["agreement"]["fused"] == pytest.approx(sum(alike) / len(alike))
    assert results["fused"]["estimate"]["agreement"]["fused"] == 1.0
    branches = [row["vac"] == row["lac"] for row in rows["unimos"]]
    assert found["branches"] == pytest.approx(sum(branches) / len(branches))
    mean = sum(float(row["probability"]) for row in rows["unimos"]) / len(alike)
    assert found["confidence"] == pytest.approx(mean, abs=1e-5)
    shares = found["class_shares"]
    assert sum(shares) == pytest.approx(1) and shares[0] == pytest.approx(
        sum(row["class"] == "airplane" for row in rows["unimos"]) / len(alike)
    )
    assert results["unimos"]["calibration"] is None and set(results["unimos"]["reliability"]) == {"raw"}
