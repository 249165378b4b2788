"""ensemble3 by hand and as the mean of its three methods."""

import math

import pytest
import torch
from factories.tasks import random_task

from unimos_pipe.methods import ensemble3, fused, linear_im, stata

# float64: logarithms and sums of five terms, which round to 1e-15; 1e-8 is wide of that.
pytestmark = pytest.mark.numerical
TASK = random_task()


def loop(every: list[list[list[float]]]) -> list[list[float]]:
    """From probabilities by method, row and class."""
    parts = []
    for table in every:
        logs = [[math.log(max(value, 1e-8)) for value in row] for row in table]
        rows = [[value - sum(row) / len(row) for value in row] for row in logs]
        values = [value for row in rows for value in row]
        deviation = math.sqrt(sum(value**2 for value in values) / len(values))  # their mean is zero
        parts.append([[value / deviation for value in row] for row in rows])
    return [[sum(values) / 3 for values in zip(*rows, strict=True)] for rows in zip(*parts, strict=True)]


def test_the_trio_is_the_mean_of_its_methods_on_one_scale():
    fits = (fused.fit, stata.fit_from_fused, linear_im.fit)
    wanted = loop([fit(TASK).probabilities.tolist() for fit in fits])
    torch.testing.assert_close(ensemble3.fit(TASK).logits, torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=1e-8)


def test_a_class_never_answered_counts_as_the_clamp():
    logits = torch.tensor([[0.0, -torch.inf]], dtype=torch.float64)
    assert ensemble3.average_logits([logits] * 3).flatten().tolist() == pytest.approx([1, -1])
