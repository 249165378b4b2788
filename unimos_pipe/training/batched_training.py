"""Train planned UniMoS runs in stacks from cached features and write their run folders."""

import contextlib
import copy
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from unimos_pipe.base.atomic_io import create_parent_dir
from unimos_pipe.base.dataclass_parsing import fingerprint
from unimos_pipe.base.fork_pool import Send, parallel_map
from unimos_pipe.base.locks import writer_lock
from unimos_pipe.data.dataset_spec import OPEN_PROTOCOLS
from unimos_pipe.evaluation.deep_embedded_validation import WeightedSourceRows
from unimos_pipe.evaluation.diagnostics import PairReference, PairReferenceCache
from unimos_pipe.methods.method_code import method_code
from unimos_pipe.methods.open_set_task import hide_classes
from unimos_pipe.methods.task import AdaptationTask, PairData, PairLoader, check_text
from unimos_pipe.methods.unimos.model import UniMoSModel
from unimos_pipe.methods.unimos.pseudo_labels import TargetEvaluation
from unimos_pipe.methods.unimos.schedules import BEFORE_TRAINING
from unimos_pipe.methods.unimos.trainer import EpochSnapshot, Measure, Trainer
from unimos_pipe.methods.unimos.training_run import TrainingRun, create_run
from unimos_pipe.runs.method_names import UNIMOS
from unimos_pipe.runs.read_run import RunFolderError, read_run
from unimos_pipe.runs.run_spec import RunSpec
from unimos_pipe.runs.run_values import Calibration, RunMetrics
from unimos_pipe.runs.source_digest import changed_modules
from unimos_pipe.runs.write_run import check_run_folder
from unimos_pipe.training.batching import count_epochs, plan_stacks
from unimos_pipe.training.checkpoint import Checkpoint
from unimos_pipe.training.environment import describe_environment
from unimos_pipe.training.rescore import can_be_rescored, is_relabelled, rescore_run
from unimos_pipe.training.run_recorder import (
    FinalState,
    RunRecorder,
    pair_identity,
    sample_after_training,
    sample_before_training,
)
from unimos_pipe.training.unknown_rows import check_unknown, find_run_unknowns

OnMetrics = Callable[[RunSpec, Mapping[str, Any]], None]
GetCalibrations = Callable[[], Mapping[RunSpec, Calibration]]


@dataclass(frozen=True)
class PlannedRun:
    """A run and its folder."""

    spec: RunSpec
    folder: Path
    rerun_changed: bool = False  # what is finished, too, where it was made by other code than is here

    def load_data(self, loader: PairLoader) -> PairData:
        """Load the run's pair in the dtype of its training precision."""
        spec = self.spec
        precision, use_labels = spec.options.train.precision, spec.use_target_labels
        data = loader.pair(spec.source, spec.target, spec.protocol, precision, use_target_labels=use_labels)
        check_text(data, spec.method)
        if spec.protocol in OPEN_PROTOCOLS:
            dataset = loader.store.spec
            source_only = dataset.source_only_classes if spec.protocol == "open-partial" else ()
            data = hide_classes(data, dataset.unknown_classes, source_only)
        return data.without_taught_labels() if spec.method == UNIMOS else data


@dataclass(frozen=True)
class RunOutcome:
    """Result of a planned run, or its error message."""

    result: RunMetrics | None
    error: str | None = None
    reused: bool = False  # finished earlier
    relabelled: bool = False  # what was finished is scored by labels that are no longer the target's
    notes: tuple[str, ...] = ()  # damage that was found and repaired
    changed_code: tuple[str, ...] = ()  # of what was finished before: modules whose source has changed since


def train_runs(
    plans: Sequence[PlannedRun],
    loader: PairLoader,
    *,
    stack_size: int | None = None,
    keep_finished: bool = False,
    checkpoints: Path | None = None,
    on_epochs: Callable[[int], None] = lambda runs: None,
    on_metrics: OnMetrics | None = None,
    references: PairReferenceCache | None = None,
    get_calibrations: GetCalibrations = dict,
) -> list[RunOutcome]:
    """Train planned UniMoS runs and write their folders.

    Runs with equal stack keys train together as one stack. The stacks follow from the whole plan, so a resumed plan
    gives the same results as an uninterrupted one.

    Args:
        loader: loads the pairs.
        stack_size: maximum number of runs in one stack; None: chosen by memory and speed.
        keep_finished: reuse finished runs of equal identity; False trains every run again and replaces its folder when
            the new run is finished.
        checkpoints: folder of the stacks' checkpoints; None: no checkpoints.
        on_epochs: called with the number of run-epochs completed since the last call.
        on_metrics: called with a run's spec and each new line of its ``metrics.jsonl``.
        references: cache of per-pair reference predictions to share with other calls; None: a new one.
        get_calibrations: called after training; returns the temperatures of
            :func:`unimos_pipe.training.calibration_runs.fit_calibrations`, by the spec with seed 0.
    Returns:
        One outcome per plan, in order. A run that diverges does not stop the others.
    Raises:
        InputError, StaleCacheError: the data cannot be loaded, or a folder holds something other than a run (both
            before training starts); or another process is writing a run folder.
    """
    data = _load_data(plans, loader)
    runs = [create_run(pair.task, plan.spec.options, plan.spec.seed) for plan, pair in zip(plans, data, strict=True)]
    previous = _load_previous(plans, data, keep_finished)
    references = references or PairReferenceCache()
    stack_plan = plan_stacks(runs, stack_size, loader.device)
    open_stacks = [members for members in stack_plan.stacks if not all(previous[i].reused for i in members)]
    concurrent = stack_plan.concurrent_stacks(len(open_stacks))
    on_epochs(count_epochs(runs) - sum(count_epochs(runs[i] for i in members) for members in open_stacks))

    def train(members: Sequence[int], send: Send) -> list[RunOutcome]:
        stack_outcomes = [previous[i] for i in members]
        stack = _Stack([plans[i] for i in members], [data[i] for i in members], [runs[i] for i in members])
        send_line = on_metrics and (lambda spec, line: send((spec, line)))
        with lock_run_folders([plans[i] for i in members if not previous[i].reused]):
            return stack.train(checkpoints, send, send_line, stack_outcomes, references, get_calibrations, concurrent)

    def on_message(message: int | tuple[RunSpec, Mapping[str, Any]]) -> None:
        on_epochs(message) if isinstance(message, int) else on_metrics(*message)

    with _create_parent_dirs([plans[i] for i in itertools.chain(*open_stacks)]):
        trained = parallel_map(train, open_stacks, stack_plan.processes, on_message)
    outcomes = dict(zip(itertools.chain(*open_stacks), itertools.chain(*trained), strict=True))
    return [outcomes.get(index, outcome) for index, outcome in enumerate(previous)]


def _load_data(plans: Sequence[PlannedRun], loader: PairLoader) -> list[PairData]:
    """Load the pairs of runs. Raises what :meth:`PairLoader.pair` and :func:`check_unknown` raise."""
    data = [plan.load_data(loader) for plan in plans]
    for plan, pair in zip(plans, data, strict=True):
        check_unknown(plan.spec, pair)
    return data


@contextlib.contextmanager
def _create_parent_dirs(plans: Sequence[PlannedRun]) -> Iterator[None]:
    """Create the parents of run folders, which several processes share. If the block fails, empty ones are removed."""
    with contextlib.ExitStack() as stack:
        for plan in plans:
            stack.enter_context(create_parent_dir(plan.folder))
        yield


def _load_previous(plans: Sequence[PlannedRun], data: Sequence[PairData], keep_finished: bool) -> list[RunOutcome]:
    """Return the finished runs, re-scored if relabelled, after checking that the other folders may be written."""
    pairs = list(zip(plans, data, strict=True))
    previous = [load_finished(plan, pair) if keep_finished else RunOutcome(None) for plan, pair in pairs]
    for plan, outcome in zip(plans, previous, strict=True):
        if not outcome.reused:
            check_run_folder(plan.folder, force=True)
    return [rescore_if_relabelled(*args) for args in zip(plans, data, previous, strict=True)]


def load_finished(plan: PlannedRun, data: PairData) -> RunOutcome:
    """Return the finished run in a plan's folder.

    Returns:
        A reused outcome if the run is complete and of this identity; otherwise an outcome without a result.
    """
    try:
        run = read_run(plan.folder)
    except RunFolderError as error:
        exists = plan.folder.is_dir() and any(plan.folder.iterdir())
        return RunOutcome(None, notes=(f"{plan.folder}: {error.reason}; trained again",) if exists else ())
    code = method_code(plan.spec.method, tuple(dict(plan.spec.options.loss.extra)))
    changed = tuple(changed_modules(run.config.code, code)) if run.config.code is not None else tuple(code)
    if changed and plan.rerun_changed:
        return RunOutcome(None, changed_code=changed)
    if run.identity == pair_identity(plan.spec, data):
        return RunOutcome(run.result, reused=True, changed_code=changed)
    if not is_relabelled(run, plan.spec, data):
        return RunOutcome(None)
    can_rescore = can_be_rescored(run)
    return RunOutcome(run.result if can_rescore else None, reused=can_rescore, relabelled=True, changed_code=changed)


def rescore_if_relabelled(plan: PlannedRun, data: PairData, outcome: RunOutcome) -> RunOutcome:
    """Return the outcome of :func:`load_finished`, scored again if the target's labels have changed.

    Raises:
        InputError: another process is writing the run folder.
    """
    if not (outcome.reused and outcome.relabelled):
        return outcome
    with lock_run_folders([plan]):
        try:
            return replace(outcome, result=rescore_run(read_run(plan.folder), plan.spec, data))
        except (RunFolderError, ValueError) as error:
            return RunOutcome(None, notes=(f"{plan.folder}: {error}; trained again",))


@contextlib.contextmanager
def lock_run_folders(plans: Sequence[PlannedRun]) -> Iterator[None]:
    """Hold the writer locks of run folders. Raises InputError if another process is writing one of them."""
    with contextlib.ExitStack() as locks:
        for folder in sorted(plan.folder for plan in plans):
            locks.enter_context(writer_lock(folder))
        yield


class _Stack:
    """Runs that train together, and their recorders."""

    def __init__(self, plans: list[PlannedRun], data: list[PairData], runs: list[TrainingRun]):
        self.plans, self.data, self.runs = plans, data, runs
        self.identities = [pair_identity(p.spec, d) for p, d in zip(plans, data, strict=True)]

    def train(
        self,
        checkpoints: Path | None,
        on_epochs: Callable[[int], None],
        on_metrics: OnMetrics | None,
        previous: Sequence[RunOutcome],
        references: PairReferenceCache,
        get_calibrations: GetCalibrations,
        concurrent_stacks: int,
    ) -> list[RunOutcome]:
        """Train from the start or from the checkpoint; folders of reused runs in ``previous`` are not touched.

        Args:
            concurrent_stacks: number of stacks that train at the same time; ``seconds`` of a run is its share of the
                machine's time.
        """
        started = time.perf_counter()
        trainer = Trainer(self.runs)
        untrained = [
            sample_before_training(self._sampled_task(index), trainer.eval_heads(index))
            for index in range(len(self.runs))
        ]
        checkpoint = Checkpoint.open(checkpoints, self.identities)
        recorders = [
            None if outcome.reused else RunRecorder(plan.folder, plan.spec, data)
            for plan, data, outcome in zip(self.plans, self.data, previous, strict=True)
        ]
        resumed, refused = checkpoint.load(trainer, recorders)
        on_epochs(max(0, resumed + 1) * len(self.runs))
        last_epoch = self.runs[0].method.train.epochs - 1
        final = {}

        for epoch, records in trainer.train(after_epoch=resumed, measure=self._build_measure(recorders)):
            for record in records:
                if recorder := recorders[record.run]:
                    recorder.add(record)
                    if on_metrics:
                        on_metrics(recorder.spec, copy.deepcopy(recorder.lines[-1]))
                    if epoch == last_epoch:
                        final[record.run] = recorder.evaluate_scored_rows(record)
            if BEFORE_TRAINING < epoch < last_epoch:
                checkpoint.save_if_due(epoch, trainer, recorders)
            on_epochs(len(self.runs) if epoch > BEFORE_TRAINING else 0)
        seconds = (time.perf_counter() - started) / len(self.runs) / concurrent_stacks
        outcomes, calibrations = [], get_calibrations()
        for index, (recorder, outcome) in enumerate(zip(recorders, previous, strict=True)):
            notes = outcome.notes + ((refused,) if refused else ())
            if recorder is None:
                outcomes.append(outcome)
            elif error := trainer.failures.get(index) or _check_finite(trainer.run_state(index)):
                outcomes.append(RunOutcome(None, error, notes=notes))
            else:
                calibration = calibrations.get(replace(self.plans[index].spec, seed=0))
                shared = seconds, references.get(self.data[index]), calibration
                state = self._build_final_state(trainer, index, untrained[index], final[index], *shared)
                outcomes.append(RunOutcome(recorder.write(state), notes=notes))
        checkpoint.remove()
        return outcomes

    def _build_measure(self, recorders: Sequence[RunRecorder | None]) -> Measure:
        """Return the measurements of an epoch by the recorders, and DEV of runs that hold out source rows."""
        runs = zip(self.runs, recorders, strict=True)
        source_rows = [recorder and WeightedSourceRows.of_run(run) for run, recorder in runs]

        def measure(snapshot: EpochSnapshot) -> dict[str, torch.Tensor]:
            recorder, rows = recorders[snapshot.run], source_rows[snapshot.run]
            dev = {"dev": rows.score(snapshot.held_out.probabilities)} if rows else {}
            return recorder.measure(snapshot) | dev if recorder else {}

        return measure

    def _build_final_state(
        self,
        trainer: Trainer,
        index: int,
        untrained: dict[str, torch.Tensor],
        evaluation: TargetEvaluation,
        seconds: float,
        reference: PairReference,
        calibration: Calibration | None,
    ) -> FinalState:
        task, options = self._sampled_task(index), self.runs[index].method
        heads, state = trainer.eval_heads(index), trainer.model_state(index)
        return FinalState(
            evaluation=evaluation,
            model=UniMoSModel(heads, state["text_features"].to(trainer.device), options),
            heads=state,
            sample=sample_after_training(task, untrained, heads),
            environment=describe_environment(trainer.device),
            stack=self._describe_stack(),
            seconds=seconds,
            reference=reference,
            calibration=calibration,
            unknown=find_run_unknowns(self.plans[index].spec, self.data[index], reference),
        )

    def _sampled_task(self, index: int) -> AdaptationTask:
        """Return the task whose rows a run's sample shows: without target rows that have joined the source."""
        return self.data[index].task if self.data[index].task.target_labels else self.runs[index].task

    def _describe_stack(self) -> dict[str, Any]:
        """Return the ``stack`` of ``result.json``."""
        stack_fingerprint = fingerprint(self.identities) if len(self.runs) > 1 else None
        return {"runs": len(self.runs), "fingerprint": stack_fingerprint}


def _check_finite(state: Mapping[str, torch.Tensor]) -> str | None:
    """Return an error message if any weight is not finite."""
    if all(tensor.isfinite().all() for tensor in state.values()):
        return None
    return "training diverged: weights are not finite; try a lower train.lr"
