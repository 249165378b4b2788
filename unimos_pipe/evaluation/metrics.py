"""Accuracy metrics. Target labels and predictions meet only here."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from unimos_pipe.methods import zero_shot
from unimos_pipe.methods.task import HeldOutLabels, PairData
from unimos_pipe.runs.statistics import wilson_interval


@dataclass(frozen=True)
class Scores:
    """Accuracies on the labelled rows, as fractions.

    A class without a labelled row has None and is excluded from the per-class mean. ``interval`` is the 95% Wilson
    interval of the accuracy over all rows, if the labelled rows are a random sample.
    """

    accuracy: float
    per_class_mean: float
    per_class: tuple[float | None, ...]
    interval: tuple[float, float]


def score_predictions(predictions: Tensor, held_out: HeldOutLabels) -> Scores | None:
    """Score (n,) predicted class ids; None if no row has a label."""
    labelled = held_out.labelled
    if not len(labelled):
        return None
    labels = held_out.labels[labelled]
    classes = len(held_out.classes)
    correct = predictions.cpu().numpy()[labelled] == labels
    totals = np.bincount(labels, minlength=classes)
    hits = np.bincount(labels[correct], minlength=classes)
    per_class = tuple(float(h / t) if t else None for h, t in zip(hits, totals, strict=True))
    present = [value for value in per_class if value is not None]
    accuracy = float(correct.mean())
    return Scores(accuracy, sum(present) / len(present), per_class, wilson_interval(accuracy, len(labels)))


def score_zero_shot(data: PairData) -> Scores | None:
    """Score the zero-shot predictions of the prompts; None if the target has no labels."""
    rows = data.held_out.rows(data.task)
    return score_predictions(zero_shot.build_classifier(data.task).logits(rows).argmax(-1), data.held_out)
