"""Metrics of predictions without target labels: neighbour agreement, class shares, agreement of methods.

The measured error of the estimated accuracy is in :data:`unimos_pipe.runs.method_names.ESTIMATE_ERROR`; none of those
pairs used a large CLIP.
"""

import torch
from torch import Tensor

from unimos_pipe.methods.knn import find_neighbours

NEIGHBOURS = 5
MIN_AGREEMENT = 0.5  # of fused and linear-im; below it accuracy lay anywhere between 27 and 63%


def find_nearest_rows(features: Tensor) -> Tensor:
    """Return the (n, 5) row numbers of each row's nearest other rows by cosine; fewer if there are fewer rows."""
    return find_neighbours(features, NEIGHBOURS)[1]


def neighbour_agreement(answers: Tensor, nearest: Tensor) -> float:
    """kn = (o - e) / (1 - e): agreement of neighbours' predictions beyond chance, at most 1.

    o is the mean share of a row's neighbours with the row's prediction, e the sum over classes of the squared predicted
    share. If all predictions are equal: 0.

    Args:
        predictions: (n,) class ids.
        nearest: (n, k) row numbers from :func:`find_nearest_rows`.
    """
    observed = float((answers[nearest] == answers.unsqueeze(-1)).double().mean())
    expected = float((torch.bincount(answers).double() / len(answers)).square().sum())
    return (observed - expected) / (1 - expected) if expected < 1 else 0.0


def estimate_accuracy(picked: float, fused: Tensor, linear_im: Tensor) -> float | None:
    """Accuracy as a fraction, from the picked answers' neighbour agreement; None where it cannot be told.

    It cannot where :mod:`unimos_pipe.methods.fused` and :mod:`unimos_pipe.methods.linear_im` give less than half of
    the rows the same answer: label about 50 rows to know.

    Args:
        picked: kn of the answers taken.
        fused, linear_im: (n,) class ids of either method.
    """
    return None if agreement_rate(fused, linear_im) < MIN_AGREEMENT else max(picked, 0.0)


def agreement_rate(first: Tensor, second: Tensor) -> float:
    """Return the share of rows with equal predictions, of (n,) class ids each."""
    return float((first == second).double().mean())


def class_shares(answers: Tensor, classes: int) -> Tensor:
    """Return (K,) float64: the share of each class among (n,) class ids."""
    return torch.bincount(answers, minlength=classes).double() / len(answers)


def total_variation(first: Tensor, second: Tensor) -> float:
    """Total variation distance between two vectors of class shares (K,): 0 if equal, 1 if no class is in both."""
    return float((first - second).abs().sum() / 2)


def thresholded_confidence(confidence: Tensor, right: Tensor, target: Tensor) -> float:
    """Average thresholded confidence (Garg et al., arXiv 2201.04234): an estimate of accuracy as a fraction.

    The share of target rows above the threshold that the share of held-out source rows equal to their accuracy passes.
    For zero-shot, source probe and fused only: after information maximisation confidence means nothing.

    Args:
        confidence: (m,) largest probabilities of held-out source rows.
        right: (m,) bool, whether these were answered right.
        target: (n,) largest probabilities of target rows.
    """
    wrong = int((~right).sum())
    threshold = confidence.sort().values[wrong - 1] if wrong else -torch.inf
    return float((target > threshold).double().mean())
