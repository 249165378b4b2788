"""Metrics of predictions without target labels: estimated accuracy, class shares, agreement of methods.

Two estimators of different kinds are compared: the agreement of nearest neighbours, and the mean probability that
stacked fusion gives to the predicted classes. The measured error of the estimate is in
:data:`unimos_pipe.runs.method_names.ESTIMATE_ERROR`.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unimos_pipe.methods.knn import find_neighbours

NEIGHBOURS = 5
SAMPLED_ROWS = 8192  # of more rows, as many have their neighbours searched: the search of all is quadratic
MAX_DISTANCE = 0.2  # between the estimators; beyond it nothing is estimated
MARGIN = 0.1  # of the range on both sides, beside a standard error
MIN_ROWS = 30


@dataclass(frozen=True)
class AccuracyEstimate:
    """An accuracy and its range as fractions, all None where it cannot be estimated; ``reason`` then says why."""

    accuracy: float | None
    low: float | None
    high: float | None
    reason: str | None


@dataclass(frozen=True)
class NearestRows:
    """Row numbers (m,) and those of their nearest other rows by cosine, (m, k), nearest first."""

    rows: Tensor
    nearest: Tensor


def find_nearest_rows(features: Tensor) -> NearestRows:
    """Return the 5 nearest other rows, or all others, of each of (n, D) unit-norm rows, or of a fixed random sample.

    A share over the sample is within 0.011 of that over all rows in 95 of 100 cases (two standard deviations).
    """
    count = len(features)
    rows = torch.arange(count)
    if count > SAMPLED_ROWS:
        rows = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:SAMPLED_ROWS].sort().values
    rows = rows.to(features.device)
    return NearestRows(rows, find_neighbours(features, NEIGHBOURS, rows)[1])


def neighbour_agreement(answers: Tensor, neighbours: NearestRows) -> float:
    """kn = (o - e) / (1 - e): how much more often neighbours share a class than by chance, at most 1.

    A row counts as many of its neighbours, nearest first, as its predicted class has other rows: a class of three rows
    cannot fill five neighbours. o is the share of counted neighbours with the row's own class, e the sum over classes
    of the squared share of predictions. Predictions that are all the same, or all different, say nothing: 0.

    Args:
        answers: (n,) class ids.
        neighbours: the rows' nearest, from :func:`find_nearest_rows`.
    """
    sizes = torch.bincount(answers)
    nearest, own = neighbours.nearest, answers[neighbours.rows]
    counted = torch.arange(nearest.shape[1], device=nearest.device) < (sizes[own] - 1).unsqueeze(-1)
    same = (answers[nearest] == own.unsqueeze(-1)) & counted
    expected = float((sizes.double() / len(answers)).square().sum())
    if expected == 1 or not counted.any():
        return 0.0
    return (float(same.sum()) / float(counted.sum()) - expected) / (1 - expected)


def estimate_accuracy(neighbours: float, probability: float, rows: int) -> AccuracyEstimate:
    """The accuracy of predictions from both estimators, and a range.

    The accuracy p is the estimators' mean. The range extends 10 points, and one standard error sqrt(p (1 - p) / n) of
    the accuracy of n rows, below the lower and above the higher. Nothing is estimated where they are more than 20
    points apart, or of fewer than 30 rows.

    Args:
        neighbours: :func:`neighbour_agreement` of the predictions.
        probability: the mean probability that :mod:`unimos_pipe.methods.stacked` gives to the predicted classes.
        rows: the number of predictions.
    """
    low, high = sorted((max(neighbours, 0.0), probability))
    if rows < MIN_ROWS:
        return AccuracyEstimate(None, None, None, f"{rows} images are too few")
    if high - low > MAX_DISTANCE:
        return AccuracyEstimate(None, None, None, f"two estimates disagree, {100 * low:.0f}% and {100 * high:.0f}%")
    accuracy = (low + high) / 2
    margin = MARGIN + math.sqrt(accuracy * (1 - accuracy) / rows)
    return AccuracyEstimate(accuracy, max(low - margin, 0.0), min(high + margin, 1.0), None)


def agreement_rate(first: Tensor, second: Tensor) -> float:
    """Return the share of rows with equal predictions, of (n,) class ids each."""
    return float((first == second).double().mean())


def class_shares(answers: Tensor, classes: int) -> Tensor:
    """Return (K,) float64: the share of each class among (n,) class ids."""
    return torch.bincount(answers, minlength=classes).double() / len(answers)


def total_variation(first: Tensor, second: Tensor) -> float:
    """Total variation distance between two vectors of class shares (K,): 0 if equal, 1 if no class is in both."""
    return float((first - second).abs().sum() / 2)
