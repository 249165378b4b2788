"""The methods beside UniMoS: fitted pair by pair, in seconds and without randomness, and recorded as runs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unimos_pipe.base.errors import InputError
from unimos_pipe.evaluation.calibration import Calibration, cross_fit_logits, fit_temperature
from unimos_pipe.evaluation.diagnostics import PairReference, PairReferenceCache, run_diagnostics
from unimos_pipe.evaluation.metrics import score_predictions, score_zero_shot
from unimos_pipe.methods.auto import AutoSelection, fit_auto
from unimos_pipe.methods.base import Model
from unimos_pipe.methods.registry import METHODS
from unimos_pipe.methods.task import PairData, PairLoader
from unimos_pipe.runs.method_names import AUTO
from unimos_pipe.runs.run_spec import RunSpec
from unimos_pipe.runs.write_run import RunContents, check_run_folder, write_run
from unimos_pipe.training.batched_training import PlannedRun, RunOutcome, load_finished, lock_run_folders
from unimos_pipe.training.environment import command_line, environment
from unimos_pipe.training.run_recorder import (
    confidence,
    image_sample,
    prediction_columns,
    result_counts,
    run_config,
)


@dataclass(frozen=True)
class FitResult:
    """(n, K) logits of the rows that are scored, and what gave them."""

    logits: Tensor
    model: Model | None
    selection: AutoSelection | None
    seconds: float
    calibration: Calibration | None = None


def fit_runs(
    plans: Sequence[PlannedRun],
    loader: PairLoader,
    *,
    keep_finished: bool = False,
    on_fits: Callable[[int], None] = lambda fits: None,
    views: PairReferenceCache | None = None,
) -> list[RunOutcome]:
    """Fit planned runs of the methods beside UniMoS, one after the other, and write their folders.

    Args:
        loader: loads the pairs.
        keep_finished: leave runs alone that are whole and were made from the same spec and shards.
        on_fits: called with 1 after each.
        views: of pairs that others share; None makes them anew.
    Returns:
        One outcome per plan, in order. A method that cannot be fitted does not stop the others.
    Raises:
        InputError, StaleCacheError: data that cannot be loaded, or a folder that holds something else than a run.
    """
    views, outcomes = views or PairReferenceCache(), []
    for plan in plans:
        data = plan.load_data(loader)
        found = load_finished(plan, data) if keep_finished else RunOutcome(None)
        if not found.reused:
            check_run_folder(plan.folder, force=True)
            with lock_run_folders([plan]):
                found = _fit_run(plan, data, views.get(data), found.notes)
        outcomes.append(found)
        on_fits(1)
    return outcomes


def _fit_run(plan: PlannedRun, data: PairData, view: PairReference, notes: tuple[str, ...]) -> RunOutcome:
    try:
        fitted = fit(plan.spec, data)
        if plan.spec.calibrate:
            fitted = replace(fitted, calibration=_calibration(plan.spec, data, fitted))
    except InputError as error:
        return RunOutcome(None, str(error), notes=notes)
    if fitted.logits.isnan().any():
        return RunOutcome(None, f"{plan.spec.method} gave answers that are not finite", notes=notes)
    return RunOutcome(write_run(plan.folder, _contents(plan.spec, data, fitted, view)), notes=notes)


@torch.no_grad()
def fit(spec: RunSpec, data: PairData) -> FitResult:
    """Fit the method of a spec to a pair, and answer the rows that are scored."""
    started = time.perf_counter()
    choice = fit_auto(data.task, spec.label_set or None) if spec.method == AUTO else None
    answers = choice.output if choice else METHODS[spec.method].fit(data.task)
    test = data.held_out.features
    logits = answers.logits if test is None else answers.model.logits(test)
    return FitResult(logits, answers.model, choice, time.perf_counter() - started)


@torch.no_grad()
def _calibration(spec: RunSpec, data: PairData, fitted: FitResult) -> Calibration:
    """The temperature of a method, or of auto's pick, by cross-fitting: five fits more."""
    started = time.perf_counter()
    method = METHODS[fitted.selection.selected if fitted.selection else spec.method]
    held = cross_fit_logits(method, data.task, torch.Generator().manual_seed(spec.seed))
    temperature = fit_temperature(held, data.task.source.labels)
    return Calibration(temperature, len(held), round(time.perf_counter() - started, 3))


def _contents(spec: RunSpec, data: PairData, fitted: FitResult, view: PairReference) -> RunContents:
    raw, calibration = fitted.logits.softmax(-1), fitted.calibration
    calibrated = raw if calibration is None else (fitted.logits / calibration.temperature).softmax(-1)
    classes = fitted.logits.argmax(-1)
    answers = {"class": (classes, confidence(calibrated, classes))}
    answers |= {"raw": (None, confidence(raw, classes))} if calibration else {}
    scores = score_predictions(classes, data.held_out)
    accuracy = None
    if scores:
        accuracy = {"last": asdict(scores), "zero_shot": asdict(score_zero_shot(data))}
    state = {} if fitted.model is None else fitted.model.state()
    state["text_features"] = data.task.text_features
    return RunContents(
        config=run_config(spec, data, {"environment": environment(data.task.text_features.device)}),
        epochs=[_line(accuracy and accuracy["last"])],
        predictions=prediction_columns(data, answers),
        heads={name: tensor.cpu().numpy() for name, tensor in state.items()},
        sample={name: tensor.numpy() for name, tensor in image_sample(data.task).items()},
        result={
            **result_counts(spec, data),
            "accuracy": accuracy,
            "selected": {},
            **({"choice": _chosen(fitted.selection)} if fitted.selection else {}),
            "seconds": round(fitted.seconds, 3),
            "command": command_line(),
            **run_diagnostics(view, data.held_out, raw, calibrated, calibration),
        },
    )


def _line(scores: dict[str, Any] | None) -> dict[str, Any]:
    """The one line of ``metrics.jsonl``."""
    figures = {name: {"ensemble": scores and scores[name]} for name in ("accuracy", "per_class_mean")}
    return {"epoch": 0, "losses": {}, **figures}


def _chosen(choice: AutoSelection) -> dict[str, Any]:
    """What spoke for auto's pick."""
    return {name: getattr(choice, name) for name in ("selected", "reason", "warning", "agreements")}
