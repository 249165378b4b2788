"""The folder of each photo: its typed label, else its predicted class, else ``review`` or ``unknown``."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from unimos_pipe.data.manifest import UNKNOWN_CLASS
from unimos_pipe.photos.run_photos import Photo

REVIEW, UNKNOWN = "review", "unknown"  # folders

BY_LABEL, BY_PREDICTION, BELOW, NONE_OF_THESE = "label", "prediction", "below the threshold", "unknown"


@dataclass(frozen=True)
class Choice:
    """The folder of a photo; ``class_name`` is None for the folders ``review`` and ``unknown``."""

    photo: Photo
    label: str  # typed by a person; '' without
    class_name: str | None
    reason: str  # label, prediction, below the threshold, or unknown


def choose_folders(photos: Iterable[Photo], labels: Mapping[str, str], threshold: float) -> list[Choice]:
    """Return the choice for each photo, in order.

    Args:
        labels: typed class by path; these win over predictions.
        threshold: predictions of a lower probability go to ``review``.
    """
    return [_choose(photo, labels.get(photo.path, ""), threshold) for photo in photos]


def _choose(photo: Photo, label: str, threshold: float) -> Choice:
    if label:
        return Choice(photo, label, None if label == UNKNOWN_CLASS else label, BY_LABEL)
    if photo.predicted == UNKNOWN_CLASS:
        return Choice(photo, "", None, NONE_OF_THESE)
    if photo.probability < threshold:
        return Choice(photo, "", None, BELOW)
    return Choice(photo, "", photo.predicted, BY_PREDICTION)


def folder_of(choice: Choice, names: Mapping[str, str]) -> str:
    """Return the folder of a choice, given the folder name of each class."""
    if choice.class_name is not None:
        return names[choice.class_name]
    return REVIEW if choice.reason == BELOW else UNKNOWN


def precision_threshold(probabilities: Iterable[float], precision: float) -> float:
    """Return the lowest probability such that those at or above it have a mean of at least ``precision``.

    The mean of calibrated probabilities is the expected share of correct predictions. Infinity if even the highest
    probability is lower.
    """
    total, count, threshold = 0.0, 0, math.inf
    for value, equal_values in groupby(sorted(probabilities, reverse=True)):
        equal_count = len(list(equal_values))
        total, count = total + value * equal_count, count + equal_count
        if total < precision * count * (1 - 1e-12):  # rounding of the sum
            break
        threshold = value
    return threshold


def expected_error(choices: Sequence[Choice]) -> float | None:
    """Return the expected share of errors among photos that a prediction put into a class; None without such photos.

    It is the mean of 1 - probability, and holds as far as the probabilities are calibrated.
    """
    probabilities = [choice.photo.probability for choice in choices if choice.reason == BY_PREDICTION]
    return 1 - sum(probabilities) / len(probabilities) if probabilities else None


def count_label_errors(choices: Sequence[Choice], threshold: float) -> tuple[int, int]:
    """Return how many labelled photos a prediction would have put into a wrong class, and into any class."""
    sorted_by_prediction = [
        choice
        for choice in choices
        if choice.label and choice.photo.predicted != UNKNOWN_CLASS and choice.photo.probability >= threshold
    ]
    return sum(choice.photo.predicted != choice.label for choice in sorted_by_prediction), len(sorted_by_prediction)
