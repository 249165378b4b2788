"""Test of labelled photos as a random sample: their predictions are as sure as those of all photos."""

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import fmean, pstdev

MAX_Z = 3.0  # a random choice is beyond it in 0.3% of cases


def is_like_random(probabilities: Sequence[float], labelled: Sequence[bool]) -> bool:
    """Return whether the mean probability of the labelled photos is one that a random choice could have.

    The distance to the mean of all photos is compared with its standard error under draws without replacement.

    Args:
        probabilities: of all photos.
        labelled: whether each has a label; of none, or of all, a choice cannot be told.
    """
    chosen = [value for value, known in zip(probabilities, labelled, strict=True) if known]
    count, total = len(chosen), len(probabilities)
    spread = pstdev(probabilities) if probabilities else 0.0
    if not 0 < count < total or spread == 0:
        return True
    error = spread * sqrt((total - count) / (count * (total - 1)))
    return abs(fmean(chosen) - fmean(probabilities)) <= MAX_Z * error


def labels_like_random(rows: Sequence[Mapping[str, str]]) -> bool:
    """Return :func:`is_like_random` for the rows of a run's ``predictions.csv``."""
    return is_like_random([float(row["probability"]) for row in rows], [bool(row.get("label")) for row in rows])
