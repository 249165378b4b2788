"""Run a recipe below one folder: planned as a whole, trained in stacks, resumable, compared with baselines."""

import json
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from unimos_pipe.base.atomic_io import check_writable_folder, write_text
from unimos_pipe.base.device import pick_device
from unimos_pipe.base.errors import InputError, join_names
from unimos_pipe.base.html_repr import html_table
from unimos_pipe.base.locks import writer_lock
from unimos_pipe.base.progress import NO_PROGRESS, ProgressReporter
from unimos_pipe.base.ray_cluster import ComputeConfig
from unimos_pipe.cache.feature_set import FeatureSet
from unimos_pipe.data.dataset_spec import DatasetSpec
from unimos_pipe.evaluation import baselines
from unimos_pipe.experiments.results_table import PROBES, ResultRow, published_rows, regret, result_rows
from unimos_pipe.experiments.run_plans import RunResult, apply_stale_policy, execute_plans, load_pairs, open_loader
from unimos_pipe.methods.task import resolve_train_precision
from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.methods.unimos.training_run import TrainingRun, create_run
from unimos_pipe.runs.method_names import UNIMOS
from unimos_pipe.runs.recipe import Recipe
from unimos_pipe.runs.resolved_recipe import ResolvedRecipe, resolve_recipe
from unimos_pipe.runs.run_spec import method_display_name
from unimos_pipe.runs.run_values import RunMetrics
from unimos_pipe.training.batched_training import OnMetrics, PlannedRun, load_finished
from unimos_pipe.training.batching import plan_stacks
from unimos_pipe.training.calibration_runs import calibration_spec, calibration_specs
from unimos_pipe.training.checkpoint import CHECKPOINTS, Checkpoint
from unimos_pipe.training.run_recorder import pair_identity

RECIPE = "recipe.json"


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Training options of a sweep, and the rows that its table shows besides the last epoch."""

    stack_size: int | None = None  # runs trained together as one stack; None: what memory allows, at most 36
    force: bool = False  # retrain finished runs
    stale: str = "keep"  # or rerun, or error: what becomes of finished runs that were made by other code
    shard: tuple[int, int] | None = None  # (k, n): only the k-th of n parts, 1 to n, beside the others in one folder
    show: tuple[str, ...] = ()  # validators whose epochs are shown too, "oracle": the best by target labels; "probes"


@dataclass(frozen=True)
class SweepResult:
    """Result of a sweep. Values are the data set's published metric (``metric``), as fractions."""

    title: str
    folder: Path
    pairs: tuple[str, ...]  # source->target
    rows: tuple[ResultRow, ...]  # zero-shot, baselines, every label's last epoch, ...; empty without target labels
    published: tuple[ResultRow, ...]  # published results, shown below the rows
    runs: tuple[RunResult, ...]

    @property
    def failures(self) -> tuple[RunResult, ...]:
        """The runs without a result."""
        return tuple(run for run in self.runs if run.error)

    @property
    def changed_code(self) -> tuple[RunResult, ...]:
        """The kept runs that were made by other code than is here."""
        return tuple(run for run in self.runs if run.changed_code)

    @property
    def results(self) -> list[RunMetrics]:
        """The values of every ``result.json``."""
        return [run.result for run in self.runs if run.result]

    @property
    def partly_labelled(self) -> dict[str, tuple[int, int]]:
        """Numbers of labelled and of scored rows by target, for targets with labels for only some rows."""
        results = {run.spec.target: run.result for run in self.runs if run.result and run.result.accuracy}
        counts = {target: (result.labelled_rows, result.scored_rows) for target, result in results.items()}
        return {target: pair_counts for target, pair_counts in counts.items() if pair_counts[0] < pair_counts[1]}

    @property
    def metric(self) -> str | None:
        """The data set's published metric, accuracy or per_class_mean; None if every run failed."""
        return self.results[0].metric if self.results else None

    @property
    def protocol(self) -> str:
        """Inductive or transductive."""
        return self.runs[0].spec.protocol

    def row(self, label: str) -> ResultRow:
        """Return a row of the table; among other methods ``full`` is UniMoS's. Raises InputError with the labels."""
        rows = {row.label: row for row in self.rows}
        for name in (label, method_display_name(label)):
            if name in rows:
                return rows[name]
        raise InputError(f"the sweep has no row {label!r}; it has {join_names(rows, 20)}")

    def regret(self, label: str) -> tuple[float, float] | None:
        """Return a row's mean and maximum distance to the best row of each pair, fractions; None without such a row."""
        return regret(self.rows, label)

    def mean(self, label: str = "full") -> float:
        """Return a row's mean over pairs of the mean over seeds, a fraction. Raises InputError without such a row."""
        return self.row(label).mean().mean

    def __repr__(self) -> str:
        return f"<SweepResult {self.title}: {len(self.runs)} runs, {len(self.failures)} failed, {self.folder}>"

    def _repr_html_(self) -> str:
        """Return the table, in percent."""
        rows = [
            [row.label, *map(row.format_pair, self.pairs), row.format_average(self.pairs)]
            for row in (*self.rows, *self.published)
        ]
        return html_table(repr(self)[1:-1], ["", *self.pairs, "average"], rows)


def run_sweep(
    recipe: str | Path | Recipe | ResolvedRecipe,
    features: FeatureSet | None = None,
    runs: str | Path = "runs",
    *,
    options: SweepOptions = SweepOptions(),
    compute: ComputeConfig = ComputeConfig(),
    reporter: ProgressReporter = NO_PROGRESS,
    on_epoch: OnMetrics | None = None,
) -> SweepResult:
    """Run every pair, method, seed, variant and grid configuration of a recipe from cached features.

    Runs are written below ``<runs>/<recipe name>``. Finished runs are reused if they were made from the same options
    and features. An interrupted sweep resumes.

    Args:
        recipe: name of a recipe of the package, a ``.toml`` file, a recipe, or the result of ``resolve_recipe``.
        features: the features to read; None: the recipe's own, in the default cache.
        on_epoch: as for :func:`unimos_pipe.experiments.pairs.adapt_pairs`.
    Returns:
        The table as values. A run that diverges is in ``failures`` and does not stop the others.
    Raises:
        InputError, StaleCacheError: the recipe has faults, or features are missing or damaged; before training starts.
    """
    resolved = recipe if isinstance(recipe, ResolvedRecipe) else resolve_recipe(recipe)
    store = (features or resolved.features).store()
    recipe = resolved.recipe.with_native_logit_scale(store.read_logit_scale())
    folder = Path(runs) / recipe.name
    plans = plan_runs(recipe, store.spec, store.folder.name, folder, compute.device)
    loader = open_loader(plans, store, compute.device)
    plans = apply_stale_policy(take_shard(plans, options.shard), loader, options.stale)
    data = load_pairs(plans, loader)  # reports every fault of the cache before a folder is changed
    published = published_rows(recipe.published_table, store.spec) if recipe.published_table else []
    check_writable_folder(folder, "runs")
    recipe_json = json.dumps(asdict(recipe), indent=1, ensure_ascii=False) + "\n"
    checkpoints = _checkpoint_folder(folder, options.shard)
    with _sweep_lock(folder, options.shard):
        if not (folder / RECIPE).exists():  # reports of unfinished sweeps read it
            write_text(folder / RECIPE, recipe_json)
        trained, outcomes = execute_plans(
            plans,
            loader,
            f"{len(plans)} runs",
            compute=compute,
            reporter=reporter,
            stack_size=options.stack_size,
            keep_finished=not options.force,
            checkpoints=checkpoints,
            on_epoch=on_epoch,
        )
        fit = PROBES in options.show and options.shard is None
        baseline_figures = baselines.measure_baselines(data, folder / "baselines.json", fit=fit, reporter=reporter)
        write_text(folder / RECIPE, recipe_json)
    rows = result_rows(plans, outcomes, baseline_figures, options.show)
    title = recipe.title or recipe.name
    return SweepResult(title, folder, tuple(data), tuple(rows), tuple(published), tuple(trained))


def take_shard(plans: Sequence[PlannedRun], shard: tuple[int, int] | None) -> list[PlannedRun]:
    """Return the k-th of n parts of a plan, of about equal numbers of runs; all of it for None.

    The seeds of a pair and configuration stay together, because one calibration run serves them.

    Raises:
        InputError: a part below 1 or above n, or one without runs.
    """
    if shard is None:
        return list(plans)
    k, n = shard
    if not 1 <= k <= n:
        raise InputError(f"shard {k}/{n}", expected="K/N with K from 1 to N", got=f"{k}/{n}")
    groups = list(dict.fromkeys(calibration_spec(plan.spec) for plan in plans))
    chosen = set(groups[k - 1 :: n])
    if not chosen:
        raise InputError(f"shard {k}/{n}: the sweep has only {len(groups)} parts (pairs x configurations)")
    return [plan for plan in plans if calibration_spec(plan.spec) in chosen]


def _sweep_lock(folder: Path, shard: tuple[int, int] | None) -> AbstractContextManager:
    """Return the lock of a sweep's folder, or of one part of it, which others may write beside."""
    if shard is None:
        return writer_lock(folder, folder / RECIPE, folder / "baselines.json")
    return writer_lock(folder / f"shard-{shard[0]}-of-{shard[1]}")


def _checkpoint_folder(folder: Path, shard: tuple[int, int] | None) -> Path:
    return folder / (CHECKPOINTS if shard is None else "{}-{}-of-{}".format(CHECKPOINTS, *shard))


@dataclass(frozen=True)
class SweepPlan:
    """Plan of a sweep: number of runs, finished runs, training steps, stacks, and expected seconds.

    Steps, stacks and seconds are those of UniMoS, without the epochs before a checkpoint; seconds include the
    ``calibration_runs``. ``fits`` is the number of unfinished runs of other methods.
    """

    runs: int
    finished: int
    changed: int
    steps: int
    stacks: int
    seconds: float
    fits: int
    calibration_runs: int


def plan_runs(recipe: Recipe, spec: DatasetSpec, encoder_id: str, folder: Path, device: str) -> list[PlannedRun]:
    """Return every run of a recipe on a device, with its folder below the recipe's."""
    torch_device = pick_device(device)
    specs = recipe.runs(spec, encoder_id)
    specs = [replace(run, options=resolve_train_precision(run.options, torch_device)) for run in specs]
    return [PlannedRun(run, run.folder(folder)) for run in specs]


def plan_sweep(
    recipe: str | Path | Recipe | ResolvedRecipe,
    features: FeatureSet | None = None,
    runs: str | Path = "runs",
    *,
    options: SweepOptions = SweepOptions(),
    compute: ComputeConfig = ComputeConfig(),
) -> SweepPlan:
    """Return what :func:`run_sweep` would do and its expected duration on this machine; nothing is written."""
    resolved = recipe if isinstance(recipe, ResolvedRecipe) else resolve_recipe(recipe)
    store = (features or resolved.features).store()
    recipe = resolved.recipe.with_native_logit_scale(store.read_logit_scale())
    folder = Path(runs) / recipe.name
    plans = plan_runs(recipe, store.spec, store.folder.name, folder, compute.device)
    loader = open_loader(plans, store, compute.device)
    plans = apply_stale_policy(take_shard(plans, options.shard), loader, options.stale)
    pairs = load_pairs(plans, loader)
    data = [pairs[f"{plan.spec.source}->{plan.spec.target}"] for plan in plans]
    previous = [load_finished(plan, pair) for plan, pair in zip(plans, data, strict=True)]
    finished = [not options.force and outcome.reused for outcome in previous]
    changed = sum(bool(outcome.changed_code) for outcome in previous if outcome.reused)
    unimos_indices = [index for index, plan in enumerate(plans) if plan.spec.method == UNIMOS]
    training_runs = {i: create_run(data[i].task, plans[i].spec.options, plans[i].spec.seed) for i in unimos_indices}
    stack_plan = plan_stacks(list(training_runs.values()), options.stack_size, loader.device)
    stacks = [[unimos_indices[i] for i in members] for members in stack_plan.stacks]
    open_stacks = [members for members in stacks if not all(finished[i] for i in members)]
    checkpoints = _checkpoint_folder(folder, options.shard)
    identities = [[pair_identity(plans[i].spec, data[i]) for i in members] for members in open_stacks]
    epochs = [Checkpoint.open(checkpoints, stack).count_epochs() for stack in identities]
    steps = [
        sum(training_runs[i].steps * (training_runs[i].method.train.epochs - epoch) for i in members)
        for members, epoch in zip(open_stacks, epochs, strict=True)
    ]
    seconds = 0.0
    if open_stacks:
        members = [training_runs[i] for i in open_stacks[0]]
        seconds = (
            measure_epoch_seconds(members, stack_plan.concurrent_stacks(len(open_stacks)))
            / sum(run.steps for run in members)
            * sum(steps)
        )
    calibrations = calibration_specs([plans[i] for i in unimos_indices if not finished[i]])
    seconds *= 1 + len(calibrations) / max(
        1, sum(map(len, open_stacks))
    )  # a calibration run has about as many steps as a run
    fits = sum(not finished[i] for i in range(len(plans)) if i not in training_runs)
    totals = len(plans), sum(finished), changed, sum(steps), len(open_stacks)
    return SweepPlan(*totals, seconds, fits, len(calibrations))


def measure_epoch_seconds(runs: list[TrainingRun], concurrent_stacks: int) -> float:
    """Return the seconds of machine time of one epoch of a stack, with ``concurrent_stacks`` training at the same time.

    The first epoch is measured, after the evaluation before training as warm-up.
    """
    threads, started = torch.get_num_threads(), 0.0
    try:
        torch.set_num_threads(1 if concurrent_stacks > 1 else threads)
        for epoch, records in Trainer(runs).train():
            for _ in records:
                pass
            if epoch == 0:
                return (time.perf_counter() - started) / concurrent_stacks
            started = time.perf_counter()
    finally:
        torch.set_num_threads(threads)
    raise AssertionError("a run has at least one epoch")
