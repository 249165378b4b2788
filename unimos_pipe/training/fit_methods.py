"""Fit the methods other than UniMoS, pair by pair, and record them as runs."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from unimos_pipe.base.errors import InputError
from unimos_pipe.evaluation.calibration import (
    cross_fit_logits,
    fit_temperature,
    held_out_logits,
    match_temperature,
)
from unimos_pipe.evaluation.diagnostics import (
    PairReference,
    PairReferenceCache,
    estimate_run_accuracy,
    run_diagnostics,
    setting_validators,
)
from unimos_pipe.evaluation.metrics import score_predictions, score_zero_shot
from unimos_pipe.methods.accuracy_estimate import agreement_rate
from unimos_pipe.methods.auto import AutoSelection, fit_auto
from unimos_pipe.methods.base import Method, MethodOutput, Model
from unimos_pipe.methods.registry import get_method
from unimos_pipe.methods.target_labels import cross_fit_labelled_rows, join_target_labels
from unimos_pipe.methods.task import AdaptationTask, PairData, PairLoader
from unimos_pipe.runs.method_names import AUTO
from unimos_pipe.runs.run_spec import RunSpec
from unimos_pipe.runs.run_values import Accuracies, Answers, Calibration, Choice, RunMetrics, Scores
from unimos_pipe.runs.write_run import RunContents, check_run_folder, write_run
from unimos_pipe.training.batched_training import PlannedRun, RunOutcome, load_finished, lock_run_folders
from unimos_pipe.training.environment import command_line, describe_environment
from unimos_pipe.training.run_recorder import (
    build_prediction_columns,
    build_run_config,
    gather_probabilities,
    result_counts,
    sample_images,
    scorer_tensors,
)
from unimos_pipe.training.unknown_rows import check_unknown, find_run_unknowns

LINEAR_HEAD = "linear head"


@dataclass(frozen=True)
class FitResult:
    """(n, K) logits of the scored rows, and the model and selection behind them."""

    logits: Tensor
    model: Model | None
    selection: AutoSelection | None
    seconds: float
    answers: Answers | None = None
    calibration: Calibration | None = None
    lines: tuple[dict[str, Any], ...] = ()  # of metrics.jsonl, of a method that tells of its epochs


def fit_runs(
    plans: Sequence[PlannedRun],
    loader: PairLoader,
    *,
    keep_finished: bool = False,
    on_fits: Callable[[int], None] = lambda fits: None,
    references: PairReferenceCache | None = None,
) -> list[RunOutcome]:
    """Fit planned runs of methods other than UniMoS, one after another, and write their folders.

    Args:
        loader: loads the pairs.
        keep_finished: reuse finished runs of equal identity.
        on_fits: called with 1 after each run.
        references: cache of per-pair reference predictions to share with other calls; None: a new one.
    Returns:
        One outcome per plan, in order. A method that cannot be fitted does not stop the others.
    Raises:
        InputError, StaleCacheError: the data cannot be loaded, or a folder holds something other than a run.
    """
    references, outcomes = references or PairReferenceCache(), []
    for plan in plans:
        data = plan.load_data(loader)
        outcome = load_finished(plan, data) if keep_finished else RunOutcome(None)
        if not outcome.reused:
            check_run_folder(plan.folder, force=True)
            with lock_run_folders([plan]):
                outcome = _fit_run(plan, data, references.get(data), outcome.notes)
        outcomes.append(outcome)
        on_fits(1)
    return outcomes


def _fit_run(plan: PlannedRun, data: PairData, reference: PairReference, notes: tuple[str, ...]) -> RunOutcome:
    try:
        check_unknown(plan.spec, data)
        fit_result = fit_method(plan.spec, data)
        if plan.spec.calibrate:
            fit_result = replace(fit_result, calibration=_calibrate(plan.spec, data, fit_result, reference))
    except InputError as error:
        return RunOutcome(None, str(error), notes=notes)
    if fit_result.logits.isnan().any():
        return RunOutcome(None, f"{plan.spec.method} gave predictions that are not finite", notes=notes)
    contents = _build_contents(plan.spec, data, fit_result, reference)
    write_run(plan.folder, contents)
    return RunOutcome(contents.result, notes=notes)


@torch.no_grad()
def fit_method(spec: RunSpec, data: PairData) -> FitResult:
    """Fit the method of a spec to a pair and predict the scored rows.

    Scored rows whose labels teach are predicted by cross-fitting: by a fit without their labels.
    """
    started = time.perf_counter()
    lines: list[dict[str, Any]] = []

    def on_epoch(logits: Tensor, **losses: float) -> None:
        scored = data.held_out.features is None  # otherwise these are not the scored rows
        scores = score_predictions(logits.argmax(-1), data.held_out) if scored else None
        lines.append(_metrics_line(scores, len(lines), losses))

    task = join_target_labels(data.task)
    selection = fit_auto(task, spec.label_set or None) if spec.method == AUTO else None
    output = selection.output if selection else _bind_method(spec, on_epoch).fit(task)
    test_features = data.held_out.features
    logits = output.logits if test_features is None else output.model.logits(test_features)
    if (taught := data.task.target_labels) and test_features is None:
        logits = logits.index_copy(0, taught.rows, cross_fit_labelled_rows(data.task, partial(_fit_task, spec)))
    answers = _describe_answers(spec, task, output, selection)
    return FitResult(logits, output.model, selection, time.perf_counter() - started, answers, lines=tuple(lines))


def _describe_answers(
    spec: RunSpec, task: AdaptationTask, output: MethodOutput, selection: AutoSelection | None
) -> Answers | None:
    """Return who predicts the scored rows and new rows; None for methods without a linear head."""
    if selection:
        return Answers(predictions=LINEAR_HEAD, model=LINEAR_HEAD, agreement=selection.head_agreement)
    if not _bind_method(spec).transductive:
        return None
    agreement = agreement_rate(output.classes, output.model.logits(task.target.features).argmax(-1))
    predictions = LINEAR_HEAD if spec.protocol == "inductive" else spec.method
    return Answers(predictions=predictions, model=LINEAR_HEAD, agreement=agreement)


def _fit_task(spec: RunSpec, task: AdaptationTask) -> MethodOutput:
    if spec.method == AUTO:
        return fit_auto(task, spec.label_set or None).output
    return _bind_method(spec).fit(task)


def _bind_method(spec: RunSpec, on_epoch: Callable | None = None) -> Method:
    return get_method(spec.method, spec.settings, spec.seed, on_epoch)


@torch.no_grad()
def _calibrate(spec: RunSpec, data: PairData, fit_result: FitResult, reference: PairReference) -> Calibration:
    """The temperature that matches the estimated accuracy; where there is none, the source's.

    Auto takes the one that matches the mean probability which stacked fusion, calibrated on the source, gives to its
    predictions.
    """
    started = time.perf_counter()
    logits = fit_result.logits
    classes = logits.argmax(-1)
    accuracy, basis, rows = estimate_run_accuracy(reference, classes).accuracy, "estimate", len(logits)
    if accuracy is None:
        basis = "source"
        accuracy = reference.stacked_probability(classes) if spec.method == AUTO else None
    if accuracy is None:
        temperature, rows = _fit_to_source(spec, data.task, reference)
    else:
        temperature = match_temperature(logits, accuracy)
    return Calibration(temperature, rows, round(time.perf_counter() - started, 3), basis)


def _fit_to_source(spec: RunSpec, task: AdaptationTask, reference: PairReference) -> tuple[float, int]:
    """Return the temperature of source rows that the fit did not see, and their number.

    The probes of stacked fusion serve where the method is made of one; stacked fusion itself is fitted to these rows.
    Other methods are fitted five times more.
    """
    labels, probe = task.source.labels, reference.probe
    logits = None
    if probe is not None and spec.method == "stacked":
        return 1.0, len(probe.rows) or len(labels)
    if probe is not None and len(probe.rows):
        logits, labels = held_out_logits(spec.method, task, probe), labels[probe.rows]
    if logits is None:
        generator, labels = torch.Generator().manual_seed(spec.seed), task.source.labels
        logits = cross_fit_logits(_bind_method(spec), task, generator)
    return fit_temperature(logits, labels), len(labels)


def _build_contents(spec: RunSpec, data: PairData, fit_result: FitResult, reference: PairReference) -> RunContents:
    raw, calibration = fit_result.logits.softmax(-1), fit_result.calibration
    calibrated = raw if calibration is None else (fit_result.logits / calibration.temperature).softmax(-1)
    classes = fit_result.logits.argmax(-1)
    predictions = {"class": (classes, gather_probabilities(calibrated, classes))}
    predictions |= {"raw": (None, gather_probabilities(raw, classes))} if calibration else {}
    scores = score_predictions(classes, data.held_out)
    accuracy = None
    if scores:
        accuracy = Accuracies(last=scores, zero_shot=score_zero_shot(data))
    unknown = find_run_unknowns(spec, data, reference)
    state = {} if fit_result.model is None else fit_result.model.state_dict()
    state |= scorer_tensors(unknown)
    state["text_features"] = data.task.text_features
    return RunContents(
        config=build_run_config(spec, data, {"environment": describe_environment(data.task.text_features.device)}),
        epochs=fit_result.lines or [_metrics_line(scores)],
        predictions=build_prediction_columns(data, predictions, unknown),
        heads={name: tensor.cpu().numpy() for name, tensor in state.items()},
        sample={name: tensor.numpy() for name, tensor in sample_images(data.task).items()},
        result=RunMetrics(
            **result_counts(spec, data),
            accuracy=accuracy,
            validators=setting_validators(reference, raw, raw),
            answers=fit_result.answers,
            choice=fit_result.selection and _selection_values(fit_result.selection),
            seconds=round(fit_result.seconds, 3),
            command=command_line(),
            **run_diagnostics(reference, data.held_out, raw, calibrated, calibration),
            unknown=unknown and unknown.score(classes, data.held_out),
        ),
    )


def _metrics_line(
    scores: Scores | None, epoch: int = 0, losses: Mapping[str, float] = MappingProxyType({})
) -> dict[str, Any]:
    """Return a line of ``metrics.jsonl``."""
    metrics = {name: {"ensemble": scores and getattr(scores, name)} for name in ("accuracy", "per_class_mean")}
    return {"epoch": epoch, "losses": {name: float(value) for name, value in losses.items()}, **metrics}


def _selection_values(selection: AutoSelection) -> Choice:
    return Choice(**{name: getattr(selection, name) for name in ("reason", "head_agreement", "text_agreement")})
