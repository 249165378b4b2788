"""Accuracy metrics. Target labels and predictions meet only here."""

import numpy as np
from torch import Tensor

from unimos_pipe.methods import zero_shot
from unimos_pipe.methods.task import HeldOutLabels, PairData
from unimos_pipe.runs.run_values import Scores
from unimos_pipe.runs.statistics import wilson_interval


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
    return Scores(
        accuracy=accuracy,
        per_class_mean=sum(present) / len(present),
        per_class=per_class,
        interval=wilson_interval(accuracy, len(labels)),
    )


def score_zero_shot(data: PairData) -> Scores | None:
    """Score the zero-shot predictions of the prompts; None if the target has no labels, or the features no text."""
    if not data.task.has_text:
        return None
    rows = data.held_out.rows(data.task)
    return score_predictions(zero_shot.build_classifier(data.task).logits(rows).argmax(-1), data.held_out)
