"""What is known without labels, by hand."""

import pytest
import torch
from factories.tasks import random_task

from unimos_pipe.methods import accuracy_estimate
from unimos_pipe.methods.accuracy_estimate import (
    AccuracyEstimate,
    NearestRows,
    agreement_rate,
    class_shares,
    estimate_accuracy,
    find_nearest_rows,
    neighbour_agreement,
    total_variation,
)

# float64: counts divided by counts.
pytestmark = pytest.mark.numerical


def test_neighbour_agreement_by_hand():
    """Of class 0's three rows two neighbours each count, of which 4 of 6 agree; class 1's single row counts none."""
    answers = torch.tensor([0, 0, 0, 1])
    nearest = NearestRows(torch.arange(4), torch.tensor([[1, 2], [0, 3], [0, 3], [0, 1]]))
    assert neighbour_agreement(answers, nearest) == pytest.approx((4 / 6 - 0.625) / 0.375)


def test_neighbour_agreement_by_loop_on_features():
    rows = random_task().target.features
    answers = torch.tensor([0] * 3 + [1] * 20 + [2] * 33)
    same, counted = 0, 0
    for i in range(56):
        others = int((answers == answers[i]).sum()) - 1
        nearest = sorted((j for j in range(56) if j != i), key=lambda j: -float(rows[i] @ rows[j]))[: min(5, others)]
        same += sum(int(answers[j] == answers[i]) for j in nearest)
        counted += len(nearest)
    expected = (3**2 + 20**2 + 33**2) / 56**2
    wanted = (same / counted - expected) / (1 - expected)
    assert neighbour_agreement(answers, find_nearest_rows(rows)) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("answers", [[1, 1, 1], [0, 1, 2]], ids=["alike", "different"])
def test_answers_that_are_all_the_same_or_all_different_say_nothing(answers):
    nearest = NearestRows(torch.arange(3), torch.tensor([[1], [0], [0]]))
    assert neighbour_agreement(torch.tensor(answers), nearest) == 0.0


def test_many_rows_are_sampled(monkeypatch):
    """Sampled rows have the neighbours that they have among all; the agreement differs by chance alone."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(4).repeat(250)
    centres = torch.randn(4, 16, generator=generator, dtype=torch.float64)
    rows = centres[classes] + torch.randn(1000, 16, generator=generator, dtype=torch.float64)
    rows /= rows.norm(dim=-1, keepdim=True)
    answers = torch.where(torch.rand(1000, generator=generator) < 0.3, (classes + 1) % 4, classes)
    whole = find_nearest_rows(rows)
    monkeypatch.setattr(accuracy_estimate, "SAMPLED_ROWS", 300)
    sample = find_nearest_rows(rows)
    assert whole.rows.tolist() == list(range(1000)) and sample.rows.unique().tolist() == sample.rows.tolist()
    assert len(sample.rows) == 300 and sample.nearest.equal(whole.nearest[sample.rows])
    assert int(sample.rows.diff().max()) > 8  # drawn at random, not the first ones or every third
    # The share of 300 of 1,000 rows: three standard deviations of a mean of values within [0, 1], over 1 - e = 0.75.
    bound = 3 * (0.25 / 300 * 0.7) ** 0.5 / 0.75
    difference = neighbour_agreement(answers, sample) - neighbour_agreement(answers, whole)
    assert 0 < abs(difference) < bound


@pytest.mark.parametrize(
    ("neighbours", "probability", "rows", "accuracy", "low", "high"),
    [
        (0.4, 0.6, 100, 0.5, 0.25, 0.75),  # a standard error of 0.05
        (0.4, 0.6, 1_000_000, 0.5, 0.2995, 0.7005),
        (0.99, 0.97, 49, 0.98, 0.85, 1.0),  # 0.02
        (-0.1, 0.04, 30, 0.02, 0.0, 0.14 + (0.02 * 0.98 / 30) ** 0.5),
    ],
)
def test_the_estimate_is_the_middle_with_a_range(neighbours, probability, rows, accuracy, low, high):
    estimate = estimate_accuracy(neighbours, probability, rows)
    assert (estimate.accuracy, estimate.low, estimate.high) == pytest.approx((accuracy, low, high), abs=1e-12)
    assert estimate.reason is None


def test_what_cannot_be_estimated_has_its_reason():
    none = (None, None, None)
    assert estimate_accuracy(0.43, 0.71, 500) == AccuracyEstimate(*none, "two estimates disagree, 43% and 71%")
    assert estimate_accuracy(0.7, 0.7, 29) == AccuracyEstimate(*none, "29 images are too few")


def test_agreement_and_shares_by_hand():
    first, second = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 0, 0])
    assert agreement_rate(first, second) == 0.5
    assert class_shares(first, 4).tolist() == [0.25, 0.5, 0.25, 0]
    assert total_variation(class_shares(first, 4), class_shares(second, 4)) == pytest.approx(0.5)
