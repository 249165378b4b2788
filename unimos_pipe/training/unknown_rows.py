"""Rows of none of the classes among a run's scored rows, for its files."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unimos_pipe.base.errors import InputError
from unimos_pipe.data.manifest import UNKNOWN_CLASS
from unimos_pipe.evaluation.diagnostics import NO_TEXT, ONE_CLASS, PairReference
from unimos_pipe.evaluation.open_set import score_unknown_rows
from unimos_pipe.methods.accuracy_estimate import NEIGHBOURS
from unimos_pipe.methods.knn import find_neighbours
from unimos_pipe.methods.task import HeldOutLabels, PairData
from unimos_pipe.methods.unknown_score import UnknownScorer, find_unknown_rows
from unimos_pipe.runs.run_spec import RunSpec
from unimos_pipe.runs.run_values import Unknown
from unimos_pipe.runs.unknown_option import OFF, unknown_share


@dataclass(frozen=True)
class RunUnknowns:
    """Unknown scores (n,) of the scored rows, the values of ``result.json``, and the scorer of new rows."""

    scores: Tensor
    values: Unknown
    scorer: UnknownScorer

    def score(self, predictions: Tensor, held_out: HeldOutLabels) -> Unknown:
        """Return the values with the scores against labels, where these mark unknown rows.

        Args:
            predictions: (n,) most likely known classes.
        """
        scores = score_unknown_rows(predictions, self.scores, self.values.threshold, held_out)
        return replace(self.values, scores=scores)

    def columns(self, known_classes: list[str]) -> dict[str, list[str]]:
        """Return the columns of ``predictions.csv`` that differ, given the n predicted classes."""
        unknown = (self.scores >= self.values.threshold).tolist()
        return {
            "class": [UNKNOWN_CLASS if flag else name for name, flag in zip(known_classes, unknown, strict=True)],
            "unknown_score": [f"{score:.6f}" for score in self.scores.tolist()],
            "known_class": known_classes,
        }


def check_unknown(spec: RunSpec, data: PairData) -> None:
    """Raise InputError if a run looks for unknown rows and its source has one class, or its features no text."""
    if spec.unknown != OFF and not data.task.has_text:
        raise InputError(f"unknown: {NO_TEXT}", expected="text features, which the unknown score reads")
    if spec.unknown != OFF and len(data.task.source.labels.unique()) < 2:
        raise InputError(f"unknown: {ONE_CLASS}", expected="at least 2 classes")


@torch.no_grad()
def find_run_unknowns(spec: RunSpec, data: PairData, reference: PairReference) -> RunUnknowns | None:
    """Return the unknown rows of a run; None if it does not look for any.

    Transductive scores are averaged over neighbours. The rows of an inductive run are new: the scorer scores them.
    """
    if spec.unknown == OFF:
        return None
    transductive = data.held_out.features is None
    nearest = reference.nearest.nearest
    if not transductive or len(nearest) < len(reference.rows):  # of other rows, or of a sample
        nearest = find_neighbours(data.task.target.features, NEIGHBOURS)[1]
    target = find_unknown_rows(data.task, reference.stacked, nearest, unknown_share(spec.unknown))
    scores, threshold = target.scores, target.threshold
    if not transductive:
        scores, threshold = target.scorer.score(reference.rows), float(target.scorer.threshold)
    share = float((scores >= threshold).double().mean())
    values = Unknown(
        threshold=threshold,
        share=share,
        otsu_share=target.otsu_share,
        source_share=target.source_share,
        separability=target.separability,
    )
    return RunUnknowns(scores, values, target.scorer)
