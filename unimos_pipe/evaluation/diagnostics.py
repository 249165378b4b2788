"""Label-free diagnostics of a run, and calibration metrics where labels are known, written to ``result.json``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unimos_pipe.base.errors import InputError
from unimos_pipe.base.fork_pool import Send, parallel_map
from unimos_pipe.base.progress import ProgressReporter
from unimos_pipe.evaluation.calibration import calibration_metrics
from unimos_pipe.evaluation.validators import rank_me, validator_scores, validator_tensors
from unimos_pipe.methods import fused, zero_shot
from unimos_pipe.methods.accuracy_estimate import (
    AccuracyEstimate,
    NearestRows,
    agreement_rate,
    class_shares,
    estimate_accuracy,
    find_nearest_rows,
    neighbour_agreement,
    total_variation,
)
from unimos_pipe.methods.base import LinearModel
from unimos_pipe.methods.logistic_regression import CrossFit, cross_fit
from unimos_pipe.methods.stacked import fit_stacked
from unimos_pipe.methods.task import AdaptationTask, HeldOutLabels, PairData
from unimos_pipe.runs.run_values import Calibration, Estimate, Reliability

REFERENCE_METHODS = ("zero-shot", "fused", "stacked")  # every run is compared with these


Arrays = tuple[np.ndarray, ...] | None
ONE_CLASS = "the source has rows of one class"
NO_TEXT = "the features have no text"


@dataclass(frozen=True)
class PairReference:
    """Reference predictions of a pair, shared by its runs.

    ``rows`` (n, D) are the scored rows, ``nearest`` their nearest rows by number. ``predictions`` are (n,) classes of
    :data:`REFERENCE_METHODS`, and ``stacked`` is the model of the last. If the source has rows of only one class, only
    zero-shot is present, and ``stacked`` and ``probe``, the cross-fitted probe behind it, are None; if the features
    have no text, none is present. ``source_shares`` is (K,).
    """

    rows: Tensor
    predictions: Mapping[str, Tensor]
    nearest: NearestRows
    source_shares: Tensor
    stacked: LinearModel | None
    probe: CrossFit | None = None

    def stacked_probability(self, classes: Tensor) -> float | None:
        """The mean probability of (n,) classes by stacked fusion; None without it."""
        return None if self.stacked is None else mean_probability(self.stacked.logits(self.rows).softmax(-1), classes)


class PairReferenceCache:
    """Caches per-pair reference predictions.

    Cost: one probe with its cross-fitting per source, one nearest-neighbour search per target.
    """

    def __init__(self):
        self._references: dict[tuple, PairReference] = {}
        self._nearest: dict[tuple, NearestRows] = {}
        self._probes: dict[tuple, CrossFit] = {}

    def load(self, pairs: Sequence[PairData], processes: int, reporter: ProgressReporter) -> None:
        """Fit the probes and search the neighbours of pairs on the CPU.

        Args:
            processes: that do so side by side, with one thread each, unless there is less to do.
        """
        probes = {_probe_key(data.task): data.task for data in pairs}
        targets = {_target_key(data): data.held_out.rows(data.task) for data in pairs}
        probes = {key: task for key, task in probes.items() if key not in self._probes}
        targets = {key: rows for key, rows in targets.items() if key not in self._nearest}
        jobs = [partial(_fit_probe, task) for task in probes.values()]
        jobs += [partial(_search_rows, rows) for rows in targets.values()]
        if not jobs:
            return

        def run(job: Callable[[], Arrays], send: Send) -> Arrays:
            arrays = job()
            send(1)
            return arrays

        with reporter.progress("estimates", len(jobs), "fits") as advance:
            results = parallel_map(run, jobs, processes if len(jobs) >= processes else 1, advance)
        for key, arrays in zip(probes, results[: len(probes)], strict=True):
            if arrays:  # None: a source of one class
                weight, bias, *rest = map(torch.from_numpy, arrays)
                self._probes[key] = CrossFit(LinearModel(weight, bias), *rest)
        for key, arrays in zip(targets, results[len(probes) :], strict=True):
            self._nearest[key] = NearestRows(*map(torch.from_numpy, arrays))

    def get(self, data: PairData) -> PairReference:
        """Return the reference of a loaded pair; domains of equal names must have equal features."""
        task, rows = data.task, data.held_out.rows(data.task)
        target = _target_key(data)
        key = task.source.name, *target
        if key not in self._references:
            if target not in self._nearest:
                self._nearest[target] = find_nearest_rows(rows)
            shares = class_shares(task.source.labels, len(task.text_features))
            models = self._models(task)
            predictions = {name: model.logits(rows).argmax(-1) for name, model in models.items()}
            probe = self._probe(task) if "stacked" in models else None
            self._references[key] = PairReference(
                rows, predictions, self._nearest[target], shares, models.get("stacked"), probe
            )
        return self._references[key]

    @torch.no_grad()
    def _models(self, task: AdaptationTask) -> dict[str, LinearModel]:
        if not task.has_text:
            return {}
        models = {"zero-shot": zero_shot.build_classifier(task)}
        try:
            probe = self._probe(task)
        except InputError:  # a source of one class
            return models
        models["fused"] = fused.fit_model(task, probe.model)
        return {**models, "stacked": fit_stacked(task, probe).model}

    def _probe(self, task: AdaptationTask) -> CrossFit:
        key = _probe_key(task)
        if key not in self._probes:
            self._probes[key] = cross_fit(task.source, len(task.text_features))
        return self._probes[key]


def _probe_key(task: AdaptationTask) -> tuple:
    return task.source.name, task.text_features.dtype


def _target_key(data: PairData) -> tuple:
    rows = data.held_out.rows(data.task)
    return data.task.target.name, data.held_out.features is None, rows.dtype


def _fit_probe(task: AdaptationTask) -> Arrays:
    """Return the arrays of the source's cross-fitted probe; None for a source of one class."""
    try:
        fit = cross_fit(task.source, len(task.text_features))
    except InputError:
        return None
    return tuple(part.numpy() for part in (fit.model.weight, fit.model.bias, fit.rows, fit.logits))


def _search_rows(rows: Tensor) -> Arrays:
    """Return the arrays of the nearest rows."""
    nearest = find_nearest_rows(rows)
    return nearest.rows.numpy(), nearest.nearest.numpy()


def mean_probability(probabilities: Tensor, classes: Tensor) -> float:
    """Return the mean of the probabilities (n, K) of (n,) classes."""
    return float(probabilities.gather(1, classes.unsqueeze(1)).double().mean())


def estimate_run_accuracy(reference: PairReference, classes: Tensor) -> AccuracyEstimate:
    """Return the estimated accuracy of (n,) predictions of a pair."""
    probability = reference.stacked_probability(classes)
    if probability is None:
        return AccuracyEstimate(None, None, None, ONE_CLASS if reference.predictions else NO_TEXT)
    return estimate_accuracy(neighbour_agreement(classes, reference.nearest), probability, len(classes))


def label_free_metrics(
    reference: PairReference, classes: Tensor, branches: tuple[Tensor, Tensor] | None, confidence: float
) -> Estimate:
    """Return diagnostics of (n,) predictions that need no target labels; shares are fractions.

    ``accuracy``, ``low`` and ``high`` are None if they cannot be estimated, and ``reason`` says why.
    ``neighbour_agreement`` and ``stacked_probability`` are the two estimators. ``agreement`` is the share of rows on
    which each of :data:`REFERENCE_METHODS` predicts the same class; ``outvoted`` that of rows on which zero-shot and
    stacked fusion agree on another class, None without the latter; ``branches`` that of VAC and LAC (UniMoS only).
    ``total_variation`` compares the predicted class shares with the source's.
    """
    shares = class_shares(classes, len(reference.source_shares))
    return Estimate(
        **asdict(estimate_run_accuracy(reference, classes)),
        neighbour_agreement=neighbour_agreement(classes, reference.nearest),
        stacked_probability=reference.stacked_probability(classes),
        agreement={name: agreement_rate(classes, others) for name, others in reference.predictions.items()},
        outvoted=_outvoted_rate(reference, classes),
        branches=branches and agreement_rate(*branches),
        confidence=confidence,
        class_shares=tuple(shares.tolist()),
        source_shares=tuple(reference.source_shares.tolist()),
        total_variation=total_variation(shares, reference.source_shares),
    )


def _outvoted_rate(reference: PairReference, classes: Tensor) -> float | None:
    if "stacked" not in reference.predictions:
        return None
    text, stacked = (reference.predictions[name] for name in ("zero-shot", "stacked"))
    return float(((text == stacked) & (text != classes)).double().mean())


def run_diagnostics(
    reference: PairReference,
    held_out: HeldOutLabels,
    raw: Tensor,
    calibrated: Tensor,
    calibration: Calibration | None,
    branches: tuple[Tensor, Tensor] | None = None,
) -> dict[str, Any]:
    """Return the fields of :class:`RunMetrics` on (n, K) probabilities before (``raw``) and after calibration."""
    return {
        "estimate": label_free_metrics(reference, raw.argmax(-1), branches, float(calibrated.amax(-1).mean())),
        "calibration": calibration,
        "reliability": labelled_metrics(held_out, raw, calibrated if calibration else None),
    }


def labelled_metrics(held_out: HeldOutLabels, raw: Tensor, calibrated: Tensor | None) -> Reliability | None:
    """Return ECE, NLL and Brier score before and after calibration on the labelled rows; None without labels."""
    if not len(held_out.labelled):
        return None
    labelled = torch.from_numpy(held_out.labelled).to(raw.device)
    labels = torch.from_numpy(held_out.labels).to(raw.device)[labelled]
    return Reliability(
        raw=calibration_metrics(raw[labelled], labels),
        calibrated=None if calibrated is None else calibration_metrics(calibrated[labelled], labels),
    )


@torch.no_grad()
def setting_validators(reference: PairReference, probabilities: Tensor, features: Tensor) -> dict[str, float]:
    """Return label-free scores for the selection of settings; higher is better.

    Args:
        probabilities: (n, K) of the scored rows after the last epoch.
        features: (n, H) of the same rows: the bottleneck's; for other methods the probabilities.
    """
    tensors = {name: value.cpu() for name, value in validator_tensors(probabilities, features).items()}
    scores = validator_scores(tensors, *probabilities.shape)
    agreement = neighbour_agreement(probabilities.argmax(-1), reference.nearest)
    return {**scores, "rankme": float(rank_me(features)), "agreement": float(agreement)}
