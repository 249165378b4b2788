"""Label-free diagnostics of a run, and calibration metrics where labels are known, written to ``result.json``."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from unimos_pipe.base.errors import InputError
from unimos_pipe.evaluation.calibration import Calibration, calibration_metrics
from unimos_pipe.methods import fused, source_probe
from unimos_pipe.methods.base import LinearModel
from unimos_pipe.methods.registry import METHODS
from unimos_pipe.methods.task import AdaptationTask, HeldOutLabels, PairData
from unimos_pipe.methods.unsupervised_metrics import (
    agreement_rate,
    class_shares,
    estimate_accuracy,
    find_nearest_rows,
    neighbour_agreement,
    total_variation,
)

REFERENCE_METHODS = ("zero-shot", "fused", "linear-im")  # every run is compared with these


@dataclass(frozen=True)
class PairReference:
    """Reference predictions of a pair, and the nearest neighbours of each scored row.

    ``predictions`` are (n,) classes of :data:`REFERENCE_METHODS`. If the source has rows of only one class, methods
    that need two are absent. ``source_shares`` is (K,).
    """

    predictions: Mapping[str, Tensor]
    nearest: Tensor
    source_shares: Tensor


class PairReferenceCache:
    """Caches per-pair reference predictions.

    Cost: one linear-im fit per pair, one probe per source, one nearest-neighbour search per target.
    """

    def __init__(self):
        self._references: dict[tuple, PairReference] = {}
        self._nearest: dict[tuple, Tensor] = {}
        self._probes: dict[tuple, LinearModel] = {}

    def get(self, data: PairData) -> PairReference:
        """Return the reference of a loaded pair; domains of equal names must have equal features."""
        task, rows = data.task, data.held_out.rows(data.task)
        target = task.target.name, data.held_out.features is None, rows.dtype
        key = task.source.name, *target
        if key not in self._references:
            if target not in self._nearest:
                self._nearest[target] = find_nearest_rows(rows)
            shares = class_shares(task.source.labels, len(task.text_features))
            self._references[key] = PairReference(self._predict(data.task, rows), self._nearest[target], shares)
        return self._references[key]

    @torch.no_grad()
    def _predict(self, task: AdaptationTask, rows: Tensor) -> dict[str, Tensor]:
        fits = {name: METHODS[name].fit for name in REFERENCE_METHODS}
        fits["fused"] = lambda task: fused.fit(task, self._fit_probe(task))
        predictions = {}
        for name, fit in fits.items():
            try:
                predictions[name] = fit(task).model.logits(rows).argmax(-1)
            except InputError:  # a source of one class
                break
        return predictions

    def _fit_probe(self, task: AdaptationTask) -> LinearModel:
        key = task.source.name, task.text_features.dtype
        if key not in self._probes:
            self._probes[key] = source_probe.fit_probe(task)
        return self._probes[key]


def label_free_metrics(
    reference: PairReference, classes: Tensor, branches: tuple[Tensor, Tensor] | None, confidence: float
) -> dict[str, Any]:
    """Return metrics of (n,) predictions that need no target labels; shares and accuracies are fractions.

    ``accuracy`` is None if it cannot be estimated. ``agreement`` is the share of rows on which each of
    :data:`REFERENCE_METHODS` predicts the same class; ``branches`` that of VAC and LAC (UniMoS only).
    ``total_variation`` compares the predicted class shares with the source's.
    """
    neighbours = neighbour_agreement(classes, reference.nearest)
    shares = class_shares(classes, len(reference.source_shares))
    fused, linear = (reference.predictions.get(name) for name in ("fused", "linear-im"))
    return {
        "accuracy": None if fused is None else estimate_accuracy(neighbours, fused, linear),
        "neighbour_agreement": neighbours,
        "agreement": {name: agreement_rate(classes, others) for name, others in reference.predictions.items()},
        "branches": branches and agreement_rate(*branches),
        "fused_and_linear_im": None if fused is None else agreement_rate(fused, linear),
        "confidence": confidence,
        "class_shares": shares.tolist(),
        "source_shares": reference.source_shares.tolist(),
        "total_variation": total_variation(shares, reference.source_shares),
    }


def run_diagnostics(
    reference: PairReference,
    held_out: HeldOutLabels,
    raw: Tensor,
    calibrated: Tensor,
    calibration: Calibration | None,
    branches: tuple[Tensor, Tensor] | None = None,
) -> dict[str, Any]:
    """Return the part of ``result.json`` on a run's (n, K) probabilities before (``raw``) and after calibration."""
    return {
        "estimate": label_free_metrics(reference, raw.argmax(-1), branches, float(calibrated.amax(-1).mean())),
        "calibration": calibration and asdict(calibration),
        "reliability": labelled_metrics(held_out, raw, calibrated if calibration else None),
    }


def labelled_metrics(held_out: HeldOutLabels, raw: Tensor, calibrated: Tensor | None) -> dict[str, Any] | None:
    """Return ECE, NLL and Brier score before and after calibration on the labelled rows; None without labels."""
    if not len(held_out.labelled):
        return None
    labelled = torch.from_numpy(held_out.labelled).to(raw.device)
    labels = torch.from_numpy(held_out.labels).to(raw.device)[labelled]
    metrics = {"raw": asdict(calibration_metrics(raw[labelled], labels))}
    if calibrated is not None:
        metrics["calibrated"] = asdict(calibration_metrics(calibrated[labelled], labels))
    return metrics
