"""Train planned runs locally or on Ray; shared by adapt, sweep and demo."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from unimos_pipe.base.device import HOST, pick_device
from unimos_pipe.base.errors import InputError, join_names, short_repr
from unimos_pipe.base.fork_pool import max_processes, one_thread, run_beside
from unimos_pipe.base.html_repr import html_table
from unimos_pipe.base.progress import ProgressReporter
from unimos_pipe.base.ray_cluster import ComputeConfig, connect_ray
from unimos_pipe.base.terminal import format_percent
from unimos_pipe.cache.store import FeatureStore
from unimos_pipe.evaluation.diagnostics import PairReferenceCache
from unimos_pipe.experiments.few_rows import few_rows_warning
from unimos_pipe.experiments.ray_training import RayTraining
from unimos_pipe.methods.task import PairData, PairLoader
from unimos_pipe.methods.unimos.training_run import create_run
from unimos_pipe.runs.method_names import UNIMOS
from unimos_pipe.runs.run_spec import RunSpec
from unimos_pipe.runs.run_values import RunMetrics
from unimos_pipe.training.batched_training import (
    OnMetrics,
    PlannedRun,
    RunOutcome,
    load_finished,
    train_runs,
)
from unimos_pipe.training.batching import SMALL_STEP, plan_stacks
from unimos_pipe.training.calibration_runs import calibration_specs, fit_calibrations, remove_calibrations
from unimos_pipe.training.fit_methods import fit_runs


@dataclass(frozen=True)
class RunResult:
    """Result of one run: the values of its ``result.json``, or an error message."""

    spec: RunSpec
    folder: Path
    result: RunMetrics | None
    error: str | None = None
    reused: bool = False  # finished before
    changed_code: tuple[str, ...] = ()  # of a reused run: modules whose source has changed since it was made

    @property
    def accuracy(self) -> float | None:
        """The data set's published metric on the target after the last epoch, a fraction; None without labels."""
        scores = self.result and self.result.accuracy
        return getattr(scores.last, self.result.metric) if scores else None

    def __repr__(self) -> str:
        return f"<RunResult {self._title()}: {self.error or format_percent(self.accuracy)}, {self.folder}>"

    def _title(self) -> str:
        return f"{self.spec.source} -> {self.spec.target}, {self.spec.label()}, seed {self.spec.seed}"

    def _repr_html_(self) -> str:
        rows = [["folder", self.folder], *([["error", self.error]] if self.error else [])]
        if self.result:
            metric = self.result.metric
            scores = self.result.accuracy
            names = {"last": "last epoch", "zero_shot": "zero-shot", "oracle_best": "oracle best"}
            rows += [
                [f"{metric}, {name}", format_percent(getattr(value, metric))]
                for key, name in names.items()
                if scores and (value := getattr(scores, key))
            ]
            rows += [["estimated accuracy", format_percent(self.result.estimate.accuracy)]]
            rows += [["seconds", f"{self.result.seconds:.1f}"]]
        return html_table(self._title(), [], rows)


def open_loader(plans: Sequence[PlannedRun], store: FeatureStore, device: str) -> PairLoader:
    """Return the loader of a plan's pairs, with its prompts.

    Raises:
        InputError: the device does not exist, or the runs have different training precisions, which cannot be mixed.
    """
    precisions = {plan.spec.options.train.precision for plan in plans if plan.spec.method == UNIMOS}
    if len(precisions) > 1:
        raise InputError(f"train.precision takes one value per sweep, got {', '.join(sorted(precisions))}")
    return PairLoader(store, plans[0].spec.templates, pick_device(device))


def load_pairs(plans: Sequence[PlannedRun], loader: PairLoader) -> dict[str, PairData]:
    """Load the data of every pair of a plan, by ``source->target``. Raises as :meth:`PairLoader.pair` does."""
    pairs = {f"{plan.spec.source}->{plan.spec.target}": plan for plan in plans}
    return {name: plan.load_data(loader) for name, plan in pairs.items()}


def execute_plans(
    plans: Sequence[PlannedRun],
    loader: PairLoader,
    label: str,
    *,
    compute: ComputeConfig,
    reporter: ProgressReporter,
    stack_size: int | None = None,
    keep_finished: bool = True,
    checkpoints: Path | None = None,
    on_epoch: OnMetrics | None = None,
    choose_threads: bool = True,
) -> tuple[list[RunResult], list[RunOutcome]]:
    """Train a plan's UniMoS runs and fit the other methods, locally or on a cluster.

    See :func:`unimos_pipe.training.batched_training.train_runs` and :func:`unimos_pipe.training.fit_methods.fit_runs`.

    Args:
        label: title of the progress bar.
        checkpoints: folder of the state from which an interrupted plan resumes.
        choose_threads: train a single stack of small steps on one thread, where several would be slower.
        on_epoch: the ``on_metrics`` of :func:`unimos_pipe.training.batched_training.train_runs`.
    Returns:
        Results and outcomes, in the order of ``plans``.
    """
    if compute.ray and on_epoch:
        raise InputError("on_epoch is not called for runs on a cluster; read their metrics.jsonl")
    train = partial(_train_plans, plans, loader, label, reporter, stack_size, keep_finished, checkpoints)
    if compute.ray and not (keep_finished and _are_finished(plans, loader)):
        with connect_ray(compute.ray.for_device(loader.device.type)) as cluster:
            outcomes = train(RayTraining(cluster))
    else:
        outcomes = train(LocalTraining(on_epoch, choose_threads))
    if relabelled := sum(outcome.relabelled and outcome.reused for outcome in outcomes):
        reporter.note(f"{relabelled} run(s) re-scored without training: the target's labels have changed")
    for note in dict.fromkeys(note for outcome in outcomes for note in outcome.notes):
        reporter.warn(note)
    runs = [
        RunResult(plan.spec, plan.folder, outcome.result, outcome.error, outcome.reused, outcome.changed_code)
        for plan, outcome in zip(plans, outcomes, strict=True)
    ]
    return runs, outcomes


def _are_finished(plans: Sequence[PlannedRun], loader: PairLoader) -> bool:
    return all(load_finished(plan, plan.load_data(loader)).reused for plan in plans)


class LocalTraining:
    """The functions that train a plan in this process and its children."""

    def __init__(self, on_epoch: OnMetrics | None, choose_threads: bool):
        references = self.references = PairReferenceCache()
        self.choose_threads = choose_threads
        self.train_runs = partial(train_runs, references=references, on_metrics=on_epoch)
        self.fit_runs = partial(fit_runs, references=references)

    def prepare(
        self, plans: Sequence[PlannedRun], loader: PairLoader, *, keep_finished: bool, reporter: ProgressReporter
    ) -> None:
        """Compute what the estimates of all runs need, so that the processes that train them share it."""
        if loader.device.type != HOST or _is_small_stack(plans, loader, None):  # it takes a tenth of a second then
            return
        data = [(plan, plan.load_data(loader)) for plan in plans]
        pairs = [pair for plan, pair in data if not (keep_finished and load_finished(plan, pair).reused)]
        self.references.load(pairs, max_processes(loader.device), reporter)

    def train_calibrated(
        self,
        plans: Sequence[PlannedRun],
        loader: PairLoader,
        *,
        on_epochs: Callable[[int], None],
        stack_size: int | None,
        **settings: Any,
    ) -> list[RunOutcome]:
        """Train the calibration runs of a plan, then its runs; where both are stacks of small steps, side by side."""
        calibrate = partial(fit_calibrations, plans, loader, stack_size=stack_size, **settings)
        train = partial(self.train_runs, plans, loader, stack_size=stack_size, **settings)
        small = self.choose_threads and _is_small_stack(plans, loader, stack_size)
        if small and max_processes(loader.device) > 1 and calibration_specs(plans):
            return _train_beside(calibrate, train, on_epochs)
        with one_thread() if small else contextlib.nullcontext():
            calibrations = calibrate(on_epochs=on_epochs)
            return train(on_epochs=on_epochs, get_calibrations=lambda: calibrations)


def _is_small_stack(plans: Sequence[PlannedRun], loader: PairLoader, stack_size: int | None) -> bool:
    """Return whether planned UniMoS runs are a single stack whose steps are too small for several threads."""
    runs = [create_run(plan.load_data(loader).task, plan.spec.options, plan.spec.seed) for plan in plans]
    lone = len(plan_stacks(runs, stack_size, loader.device).stacks) == 1
    return lone and loader.device.type == HOST and all(run.batch * run.stack_key.dim <= SMALL_STEP for run in runs)


def _train_beside(calibrate: Callable, train: Callable, on_epochs: Callable[[int], None]) -> list[RunOutcome]:
    """Train calibration runs in a process beside this one, which trains the runs; each has one thread."""

    def count_epochs(epochs: int) -> None:
        on_epochs(epochs)
        job.poll()

    with one_thread(), run_beside(lambda send: calibrate(on_epochs=send), on_epochs) as job:
        return train(on_epochs=count_epochs, get_calibrations=job.wait)


def _train_plans(
    plans: Sequence[PlannedRun],
    loader: PairLoader,
    label: str,
    reporter: ProgressReporter,
    stack_size: int | None,
    keep_finished: bool,
    checkpoints: Path | None,
    training: LocalTraining | RayTraining,
) -> list[RunOutcome]:
    """Return the outcomes of plans, in order."""
    unimos_plans = [plan for plan in plans if plan.spec.method == UNIMOS]
    other_plans = [plan for plan in plans if plan.spec.method != UNIMOS]
    outcome_by_folder: dict[Path, RunOutcome] = {}
    if unimos_plans:
        if warning := few_rows_warning(unimos_plans, loader):
            reporter.warn(warning)
        training.prepare(unimos_plans, loader, keep_finished=keep_finished, reporter=reporter)
        shared = {"stack_size": stack_size, "keep_finished": keep_finished, "checkpoints": checkpoints}
        specs = [*(plan.spec for plan in unimos_plans), *calibration_specs(unimos_plans)]
        with reporter.progress(label, sum(spec.options.train.epochs for spec in specs), "epochs") as advance:
            trained = training.train_calibrated(unimos_plans, loader, on_epochs=advance, **shared)
        outcome_by_folder |= zip((plan.folder for plan in unimos_plans), trained, strict=True)
        if checkpoints:
            remove_calibrations(checkpoints)
            with contextlib.suppress(OSError):  # there is none, or a stack that failed has left its own
                checkpoints.rmdir()
    if other_plans:
        with reporter.progress("other methods" if unimos_plans else label, len(other_plans), "fits") as advance:
            trained = training.fit_runs(other_plans, loader, keep_finished=keep_finished, on_fits=advance)
        outcome_by_folder |= zip((plan.folder for plan in other_plans), trained, strict=True)
    return [outcome_by_folder[plan.folder] for plan in plans]


STALE = ("keep", "rerun", "error")  # policies for finished runs that other code made


def apply_stale_policy(plans: Sequence[PlannedRun], loader: PairLoader, stale: str) -> list[PlannedRun]:
    """Return the plans, each marked whether to rerun it if its method's source has changed.

    Args:
        stale: ``keep``, ``rerun`` or ``error``.
    Raises:
        InputError: another value; or, with ``error``, finished runs that were made by other code.
    """
    if stale not in STALE:
        raise InputError("finished runs made by other code", expected=join_names(STALE), got=short_repr(stale))
    if stale == "error":
        changed_by_folder = [(plan.folder, load_finished(plan, plan.load_data(loader)).changed_code) for plan in plans]
        if changed := [f"{folder} ({join_names(modules, 3)})" for folder, modules in changed_by_folder if modules]:
            raise InputError(f"{len(changed)} finished run(s) were made by other code: {join_names(changed, 3)}")
    return [replace(plan, rerun_changed=stale == "rerun") for plan in plans]
