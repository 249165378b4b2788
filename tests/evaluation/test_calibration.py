"""Temperatures against a grid, measures by hand, and cross-fitting that never sees what it answers."""

import math
from dataclasses import replace

import pytest
import torch
from factories.tasks import random_task

from unimos_pipe.evaluation.calibration import (
    calibration_metrics,
    cross_fit_logits,
    fit_temperature,
    held_out_logits,
)
from unimos_pipe.methods import fused
from unimos_pipe.methods.base import LinearModel, Method, MethodOutput
from unimos_pipe.methods.logistic_regression import cross_fit
from unimos_pipe.methods.registry import METHODS

# float64 sums of some hundred terms; a fitted temperature is as exact as its solver stops, 1e-4.
pytestmark = pytest.mark.numerical
TASK = random_task()
G = torch.Generator().manual_seed(7)
LOGITS = torch.randn(200, 4, generator=G, dtype=torch.float64) * 2
LABELS = torch.multinomial((LOGITS / 3).softmax(-1), 1, generator=G).squeeze(1)  # drawn at temperature 3


def nll(logits: torch.Tensor, labels: torch.Tensor, temperature: float) -> float:
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        scaled = [value / temperature for value in row]
        total += math.log(sum(math.exp(value) for value in scaled)) - scaled[label]
    return total / len(labels)


def test_the_temperature_is_the_best_of_a_grid():
    found = fit_temperature(LOGITS, LABELS)
    grid = [found * (1 + 0.01 * step) for step in range(-30, 31) if step]
    assert all(nll(LOGITS, LABELS, found) < nll(LOGITS, LABELS, other) for other in grid)
    assert found == pytest.approx(3, rel=0.25)


def test_a_temperature_undoes_a_scale():
    assert fit_temperature(LOGITS * 5, LABELS) == pytest.approx(5 * fit_temperature(LOGITS, LABELS), rel=1e-4)


def test_rows_whose_label_is_never_answered_say_nothing_about_the_temperature():
    logits = torch.cat([LOGITS, LOGITS.new_full((50, 1), 0.0).expand(50, 4).index_fill(1, torch.tensor(3), -math.inf)])
    labels = torch.cat([LABELS, torch.full((50,), 3)])
    assert fit_temperature(logits, labels) == fit_temperature(LOGITS, LABELS)
    assert fit_temperature(logits[-50:], labels[-50:]) == 1.0


def test_answers_that_are_all_right_get_the_least_temperature():
    temperature = fit_temperature(torch.eye(3) / 10, torch.arange(3))
    assert 0.01 <= temperature < 0.011


def test_measures_by_hand():
    """Bins of the three confidences: (0.8, 0.8667], (0.6, 0.6667] and again the latter."""
    probabilities = torch.tensor([[0.85, 0.15], [0.65, 0.35], [0.39, 0.61]])
    found = calibration_metrics(probabilities, torch.tensor([0, 1, 1]))
    assert found.ece == pytest.approx((0.15 + abs(1 - 0.65 - 0.61)) / 3)
    assert found.nll == pytest.approx(-(math.log(0.85) + math.log(0.35) + math.log(0.61)) / 3)
    assert found.brier == pytest.approx(2 * (0.15**2 + 0.65**2 + 0.39**2) / 3)


def test_a_confidence_on_an_edge_is_of_the_bin_below():
    """0.6 = 9/15 is the end of (8/15, 9/15]; in one bin with 0.65 the distances would cancel out."""
    probabilities = torch.tensor([[0.6, 0.4], [0.65, 0.35]], dtype=torch.float64)
    found = calibration_metrics(probabilities, torch.tensor([0, 1]))
    assert found.ece == pytest.approx((0.4 + 0.65) / 2)


def test_measures_of_sure_answers():
    sure = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    found = calibration_metrics(sure, torch.tensor([0, 1]))
    assert (found.ece, found.brier) == (0.5, 1.0) and found.nll == pytest.approx(-math.log(1e-8) / 2)


def rows_among(rows: torch.Tensor, others: torch.Tensor) -> list[bool]:
    return [(others == row).all(-1).any().item() for row in rows]


@pytest.mark.parametrize("new_rows", [True, False])
def test_cross_fitting_answers_each_source_row_once_from_a_fit_that_did_not_see_it(new_rows):
    """The stand-in answers with the row's first features; what its source holds is written down."""
    model = LinearModel(torch.eye(16, dtype=torch.float64)[:, :5], torch.zeros(5, dtype=torch.float64))
    seen = []

    def fit(task):
        seen.append((task.source, task.target.features))
        return MethodOutput(model.logits(task.target.features), model if new_rows else None)

    found = cross_fit_logits(
        Method(fit, LinearModel.from_state if new_rows else None), TASK, torch.Generator().manual_seed(1)
    )
    torch.testing.assert_close(found, TASK.source.features[:, :5], rtol=1e-12, atol=1e-12)
    assert len(seen) == 5
    for source, target in seen:
        assert len(source.labels) == 32
        held = [not known for known in rows_among(TASK.source.features, source.features)]
        in_target = rows_among(TASK.source.features, target)
        assert in_target == ([False] * 40 if new_rows else held)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_cross_fitted(name):
    found = cross_fit_logits(METHODS[name], TASK, torch.Generator().manual_seed(0))
    assert found.shape == (40, 5) and not found.isnan().any()
    again = cross_fit_logits(METHODS[name], TASK, torch.Generator().manual_seed(0))
    assert torch.equal(found, again)
    assert (found.argmax(-1) == TASK.source.labels).double().mean() > 0.5


def test_answers_of_rows_that_the_probe_did_not_see_follow_from_stacked_fusions_probes():
    """In class 2, which has no source row, the answer is -inf; of every row, the sum is taken by hand."""
    kept = TASK.source.labels != 2
    task = replace(TASK, source=TASK.source.subset(kept))
    probe = cross_fit(task.source, 5)
    rows, present = task.source.features[probe.rows], [0, 1, 3, 4]
    text, held = 100 * rows @ task.text_features.mT, probe.logits
    scale = fused.probe_scale(task, probe.model)

    def center(values):
        return values - values.mean(-1, keepdim=True)

    wanted = {
        "source-probe": held[:, present],
        "fused": (center(text[:, present]) + scale * center(held[:, present])) / 2,
    }
    for name, logits in wanted.items():
        found = held_out_logits(name, task, probe)
        assert torch.allclose(found[:, present], logits, rtol=1e-9) and (found[:, 2] == -math.inf).all()
    assert held_out_logits("gda", task, probe) is None
