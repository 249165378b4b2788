"""Metrics of unknown rows where labels mark them: H-score, AUROC, OSCR, and accuracy on known rows.

The H-score is the harmonic mean of the accuracy on known rows, on which a row that is called unknown is wrong, and the
share of unknown rows that are called so (Fu et al., ECCV 2020, with the mean over rows in the place of that over
classes). OSCR is the area under the accuracy on known rows that are accepted over the share of unknown rows that are
accepted, for all thresholds (Dhamija et al., NeurIPS 2018).
"""

import numpy as np
from torch import Tensor

from unimos_pipe.data.manifest import NO_LABEL
from unimos_pipe.methods.task import HeldOutLabels
from unimos_pipe.runs.run_values import UnknownScores


def score_unknown_rows(
    predictions: Tensor, scores: Tensor, threshold: float, held_out: HeldOutLabels
) -> UnknownScores | None:
    """Score unknown scores and their threshold; None without both known and unknown labelled rows.

    Args:
        predictions: (n,) most likely known classes.
        scores: (n,) unknown scores; a row is called unknown from ``threshold`` on.
    """
    if held_out.unknown is None or held_out.labels is None:
        return None
    known = held_out.labels != NO_LABEL
    if not known.any() or not held_out.unknown.any():
        return None
    values = scores.double().cpu().numpy()
    right = predictions.cpu().numpy()[known] == held_out.labels[known]
    known_scores, unknown_scores = values[known], values[held_out.unknown]
    thresholds = np.append(np.unique(values[known | held_out.unknown]), np.inf)
    accuracies = np.array([_share(right & (known_scores < cut)) for cut in thresholds])
    recalls = _share_at_least(unknown_scores, thresholds)
    after, recall = _share(right & (known_scores < threshold)), _share(unknown_scores >= threshold)
    return UnknownScores(
        known_rows=int(known.sum()),
        unknown_rows=int(held_out.unknown.sum()),
        known_before=_share(right),
        known_after=after,
        found=recall,
        h_score=_harmonic_mean(after, recall),
        best_h_score=max(map(_harmonic_mean, accuracies, recalls)),
        auroc=_area_under_roc(known_scores, unknown_scores),
        oscr=float(np.trapezoid(accuracies, 1 - recalls)),
    )


def _share(rows: np.ndarray) -> float:
    return float(rows.mean())


def _share_at_least(values: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Return the share of values from each cut on."""
    return 1 - np.searchsorted(np.sort(values), cuts) / len(values)


def _harmonic_mean(first: float, second: float) -> float:
    return float(2 * first * second / (first + second)) if first + second else 0.0


def _area_under_roc(lower: np.ndarray, higher: np.ndarray) -> float:
    """Return the share of pairs in which the value of ``higher`` is larger; equal ones count half."""
    ordered = np.sort(lower)
    below, not_above = (np.searchsorted(ordered, higher, side) for side in ("left", "right"))
    return float((below + not_above).mean() / 2 / len(lower))
