"""What is known without labels, by hand."""

import pytest
import torch

from tests.factories.tasks import random_task
from unimos_pipe.methods.unsupervised_metrics import (
    agreement_rate,
    class_shares,
    estimate_accuracy,
    find_nearest_rows,
    neighbour_agreement,
    thresholded_confidence,
    total_variation,
)

# float64: counts divided by counts.
pytestmark = pytest.mark.numerical


def test_neighbour_agreement_by_hand():
    """Four rows, two neighbours each; 6 of 8 agree, chance is (3/4)^2 + (1/4)^2 = 0.625."""
    answers = torch.tensor([0, 0, 0, 1])
    nearest = torch.tensor([[1, 2], [0, 2], [0, 1], [0, 1]])
    assert neighbour_agreement(answers, nearest) == pytest.approx((0.75 - 0.625) / 0.375)


def test_neighbour_agreement_by_loop_on_features():
    rows = random_task().target.features
    answers = torch.arange(56) % 5
    shares = []
    for i in range(56):
        nearest = sorted((j for j in range(56) if j != i), key=lambda j: -float(rows[i] @ rows[j]))[:5]
        shares.append(sum(int(answers[j] == answers[i]) for j in nearest) / 5)
    expected = sum((answers.tolist().count(k) / 56) ** 2 for k in range(5))
    wanted = (sum(shares) / 56 - expected) / (1 - expected)
    assert neighbour_agreement(answers, find_nearest_rows(rows)) == pytest.approx(wanted, abs=1e-12)


def test_answers_that_are_all_the_same_say_nothing():
    assert neighbour_agreement(torch.ones(3, dtype=torch.int64), torch.tensor([[1], [0], [0]])) == 0.0


def test_accuracy_cannot_be_told_where_the_methods_part():
    fused = torch.tensor([0, 1, 2, 0])
    assert estimate_accuracy(0.8, fused, torch.tensor([0, 1, 0, 1])) == 0.8  # half is enough
    assert estimate_accuracy(0.8, fused, torch.tensor([0, 2, 0, 1])) is None
    assert estimate_accuracy(-0.1, fused, fused) == 0.0


def test_agreement_and_shares_by_hand():
    first, second = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 0, 0])
    assert agreement_rate(first, second) == 0.5
    assert class_shares(first, 4).tolist() == [0.25, 0.5, 0.25, 0]
    assert total_variation(class_shares(first, 4), class_shares(second, 4)) == pytest.approx(0.5)


def test_thresholded_confidence_by_hand():
    """Two of four held-out answers are right, so the threshold is 0.4, which three of four target rows pass."""
    confidence, right = torch.tensor([0.9, 0.2, 0.6, 0.4]), torch.tensor([True, False, True, False])
    target = torch.tensor([0.3, 0.5, 0.7, 0.9])
    assert thresholded_confidence(confidence, right, target) == 0.75
    assert thresholded_confidence(confidence, torch.ones(4, dtype=torch.bool), target) == 1.0
