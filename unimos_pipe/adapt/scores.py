"""Scores: the only place where target labels and predictions meet."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from unimos_pipe.methods import zero_shot
from unimos_pipe.methods.task import HeldOutLabels, PairData


@dataclass(frozen=True)
class Scores:
    """Accuracies as fractions. Classes without a row have None and stay out of the per-class mean."""

    accuracy: float
    per_class_mean: float
    per_class: tuple[float | None, ...]


def score(predictions: Tensor, held_out: HeldOutLabels) -> Scores | None:
    """Score (n,) predicted class ids; None where the target has no labels."""
    if held_out.labels is None:
        return None
    labels = held_out.labels
    classes = len(held_out.classes)
    right = predictions.cpu().numpy() == labels
    totals = np.bincount(labels, minlength=classes)
    hits = np.bincount(labels[right], minlength=classes)
    per_class = tuple(float(h / t) if t else None for h, t in zip(hits, totals, strict=True))
    present = [value for value in per_class if value is not None]
    return Scores(float(right.mean()), sum(present) / len(present), per_class)


def zero_shot_score(data: PairData) -> Scores | None:
    """The score of the prompts alone, whatever text a run takes; None where the target has no labels."""
    rows = data.held_out.rows(data.task)
    return score(zero_shot.model(data.task).logits(rows).argmax(-1), data.held_out)
