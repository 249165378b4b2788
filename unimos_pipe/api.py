"""The pipeline from Python: functions that run both stages, and single tasks without a run folder.

    features = unimos_pipe.extract_features("icons").features
    task = unimos_pipe.make_task(features, "line", "sketch")
    model = unimos_pipe.adapt_task(task, on_epoch=lambda epoch: print(epoch.epoch, epoch.accuracy))
    model.predict(["photo.jpg"]).labels

Functions of one stage are in that stage's folder; :mod:`unimos_pipe` exports all of them.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from unimos_pipe.base.atomic_io import check_writable_folder
from unimos_pipe.base.device import pick_device
from unimos_pipe.base.errors import Call, ExecutionError, InputError, suggestions
from unimos_pipe.base.html_repr import html_table
from unimos_pipe.base.method_config import MethodSpec, method_spec, with_native_logit_scale
from unimos_pipe.base.optional_deps import find_missing_packages
from unimos_pipe.base.progress import NO_PROGRESS, ProgressReporter
from unimos_pipe.base.ray_cluster import ComputeConfig
from unimos_pipe.base.terminal import format_percent
from unimos_pipe.cache.feature_set import FeatureSet, feature_set
from unimos_pipe.cache.store import FeatureStore
from unimos_pipe.deploy.adapted_model import AdaptedModel
from unimos_pipe.deploy.model_config import FORMAT
from unimos_pipe.evaluation.metrics import score_predictions, score_zero_shot
from unimos_pipe.experiments.results_table import ORACLE_ROW, ResultRow, result_rows
from unimos_pipe.experiments.run_plans import execute_plans, open_loader
from unimos_pipe.experiments.sweep import SweepOptions, SweepResult, plan_runs, run_sweep
from unimos_pipe.extract.extract_features import ExtractOptions, ExtractResult, extract_features
from unimos_pipe.methods.auto import fit_auto
from unimos_pipe.methods.registry import get_method
from unimos_pipe.methods.target_labels import join_target_labels
from unimos_pipe.methods.task import PairData, PairLoader, check_text, resolve_train_precision
from unimos_pipe.methods.unimos.pseudo_labels import TargetEvaluation
from unimos_pipe.methods.unimos.schedules import BEFORE_TRAINING
from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.methods.unimos.training_run import create_run
from unimos_pipe.report.make_report import Report, make_report
from unimos_pipe.runs.method_names import (
    AUTO,
    METHODS,
    UNIMOS,
    answers_new_rows,
    label_set_faults,
    labels_fault,
    method_names,
    parse_method_settings,
)
from unimos_pipe.runs.recipe import Recipe
from unimos_pipe.runs.resolved_recipe import ResolvedRecipe, resolve_recipe


@dataclass(frozen=True)
class RecipeResult:
    """Result of a recipe: stage one (None if features were complete), the sweep, and the report (None if not made)."""

    extracted: ExtractResult | None
    sweep: SweepResult
    report: Report | None


def run_recipe(
    recipe: str | Path | Recipe | ResolvedRecipe,
    root: str | Path | None = None,
    runs: str | Path = "runs",
    *,
    options: SweepOptions = SweepOptions(),
    reading: ExtractOptions = ExtractOptions(workers=2),
    compute: ComputeConfig = ComputeConfig(),
    reporter: ProgressReporter = NO_PROGRESS,
    on_sweep: Callable[[SweepResult], None] = lambda result: None,
    format_call: Callable[[Call], str] = str,
) -> RecipeResult:
    """Run a recipe from images to its report: encode missing features, train the runs, write the page.

    Args:
        recipe: name of a known recipe, a ``.toml`` file, a recipe, or a result of ``resolve_recipe``.
        root: folder that holds the domains' folders; not needed where features are complete or images embedded.
        on_sweep: called with the sweep before the page is written.
        format_call: how the page shows the calls that reproduce it; Python by default.
    Returns:
        The result. Its report is None if runs failed or the packages of the extra ``[report]`` are missing.
    Raises:
        InputError, StaleCacheError, ExecutionError: as :func:`extract_features` and :func:`run_sweep`.
    """
    bound = recipe if isinstance(recipe, ResolvedRecipe) else resolve_recipe(recipe)
    root = Path(root) if root else None
    missing = bound.features.missing_domains(bound.recipe.domains(bound.dataset))
    extracted = None
    if missing:
        extracted = extract_features(bound.features, missing, root, options=reading, compute=compute, reporter=reporter)
    sweep = run_sweep(
        bound, extracted.features if extracted else None, runs, options=options, compute=compute, reporter=reporter
    )
    on_sweep(sweep)
    if sweep.failures or find_missing_packages("report"):
        return RecipeResult(extracted, sweep, None)
    cache = bound.features.cache
    page = make_report(
        sweep.folder, sweep.folder / "report", root=root, cache=cache, format_call=format_call, reporter=reporter
    )
    return RecipeResult(extracted, sweep, page)


@dataclass(frozen=True)
class DemoResult:
    """Result of the demo: a table with zero-shot, last epoch and oracle best by pair, and times."""

    pairs: tuple[str, ...]  # source->target
    rows: tuple[ResultRow, ...]
    trained: int
    kept: int  # finished before
    extract_seconds: float
    train_seconds: float


def demo(
    seeds: int = 1,
    runs: str | Path = "runs",
    cache: str | Path | None = None,
    *,
    compute: ComputeConfig = ComputeConfig(),
    reporter: ProgressReporter = NO_PROGRESS,
) -> DemoResult:
    """Run both stages on the embedded icons: encode them and adapt all 12 pairs; finished runs are kept.

    Raises:
        InputError: folders that cannot be written to, or an unavailable device.
    """
    folder = check_writable_folder(Path(runs), "runs")
    started = time.perf_counter()
    features = feature_set("icons", cache=cache)
    features = replace(features, encoder=replace(features.encoder, precision="fp32"))  # as in the README's figures
    store = extract_features(features, compute=compute, reporter=reporter).features.store()
    encoded = time.perf_counter()
    recipe = Recipe("demo", store.spec.name, seeds=seeds)
    plans = plan_runs(recipe, store.spec, store.folder.name, folder, compute.device)
    loader = open_loader(plans, store, compute.device)
    trained, outcomes = execute_plans(plans, loader, "12 pairs", compute=compute, reporter=reporter)
    rows = result_rows(plans, outcomes, {}, show=[ORACLE_ROW])
    pairs = tuple(f"{source}->{target}" for source, target in recipe.domain_pairs(store.spec))
    kept = sum(run.reused for run in trained)
    seconds = encoded - started, time.perf_counter() - encoded
    return DemoResult(pairs, tuple(rows), len(trained) - kept, kept, *seconds)


@dataclass(frozen=True)
class Task:
    """One pair of domains. ``data.task`` holds the (n, D) features as a run of train.precision fp32 sees them."""

    source: str
    target: str
    loader: PairLoader

    @property
    def store(self) -> FeatureStore:
        """The store of the features."""
        return self.loader.store

    @property
    def data(self) -> PairData:
        """The pair in fp32."""
        return self.loader.pair(self.source, self.target)

    def __repr__(self) -> str:
        return f"<Task {self.source} -> {self.target} of {self.store.spec.name}>"

    def _repr_html_(self) -> str:
        task, held_out = self.data.task, self.data.held_out
        rows = [
            ["source", f"{len(task.source.features):,} labelled rows"],
            ["target", f"{len(task.target.features):,} rows, labels of {len(held_out.labelled):,} for scoring only"],
            ["classes", len(held_out.classes)],
            ["D", task.text_features.shape[1]],
            ["features", self.store.folder],
        ]
        return html_table(repr(self)[1:-1], [], rows)


@dataclass(frozen=True)
class EpochInfo:
    """Values of an epoch passed to ``on_epoch`` of :func:`adapt_task`; epoch -1 is the evaluation before training.

    ``losses``: mean of each term over the epoch's steps. ``train_weight``: mean learned w. ``accuracy``: of the
    ensemble on the whole target, a fraction, None without labels. ``evaluation``: all (n, ...) predictions.
    """

    epoch: int
    losses: Mapping[str, float]
    train_weight: float | None
    accuracy: float | None
    evaluation: TargetEvaluation

    def __repr__(self) -> str:
        return f"<Epoch {self.epoch}: accuracy {format_percent(self.accuracy)}>"

    def _repr_html_(self) -> str:
        weight = [] if self.train_weight is None else [["mean learned w", f"{self.train_weight:.4f}"]]
        losses = [[f"loss {name}", f"{value:.4f}"] for name, value in self.losses.items()]
        return html_table(repr(self)[1:-1], [], [*losses, *weight])


def make_task(features: str | FeatureSet, source: str, target: str, *, device: str = "auto") -> Task:
    """Load a labelled source and an unlabelled target, (n, D) unit-norm features each, and the (K, D) prompts.

    Several domains make one source as ``art+photo``.

    Raises:
        InputError, StaleCacheError: missing, damaged or unfitting features.
    """
    features = feature_set(features) if isinstance(features, str) else features
    loader = PairLoader(features.store(), features.templates, pick_device(device))
    loader.pair(source, target)  # every fault shows now
    return Task(source, target, loader)


def adapt_task(
    task: Task,
    *,
    method: str = UNIMOS,
    label_set: str = "",
    use_target_labels: bool = False,
    variant: str = "full",
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    on_epoch: Callable[[EpochInfo], None] = lambda epoch: None,
) -> AdaptedModel:
    """Train the heads and return the adapted model of the last epoch, its probabilities not calibrated.

    Args:
        method: UniMoS, or another that predicts new images, one from outside the package among them; these have no
            variant and report no epochs.
        label_set: for auto: "closed" (the target has every class) or "partial"; empty: unknown.
        use_target_labels: learn from the labels that some target rows have; these are not scored.
        variant: full, an ablation such as no-im, or fused-teacher, which is ours.
        settings: changed options by dotted name, such as ``{"train.epochs": 20, "loss.gamma": 0.05}``.
        seed: of everything random.
        on_epoch: called before training and after every epoch.
    Raises:
        InputError: unknown options or values.
        ExecutionError: training that diverged.
    """
    if not isinstance(task, Task):
        raise InputError(
            "task",
            expected="one of make_task, whose encoder and classes a model needs",
            got=type(task).__name__,
            todo="Features in arrays are adapted by UniMoSClassifier, or make a data set of them with import_features",
        )
    if faults := label_set_faults(method, label_set):
        raise InputError("; ".join(faults))
    if use_target_labels and (fault := labels_fault(method)):
        raise InputError(fault)
    if method != UNIMOS:
        return _fit_task(task, method, label_set, settings or {}, seed, use_target_labels)
    options = method_spec(variant, with_native_logit_scale(settings or {}, task.store.read_logit_scale()), "adapt_task")
    options = resolve_train_precision(options, task.loader.device)
    precision = options.train.precision
    data = task.loader.pair(task.source, task.target, precision=precision, use_target_labels=use_target_labels)
    data = data.without_taught_labels()
    check_text(data, UNIMOS)
    trainer = Trainer([create_run(data.task, options, seed)])
    accuracy = {}
    for epoch, records in trainer.train():
        for record in records:
            scores = score_predictions(record.evaluation.predictions, data.held_out)
            value = scores.accuracy if scores else None
            accuracy["zero_shot" if epoch == BEFORE_TRAINING else "last"] = value
            if epoch == BEFORE_TRAINING and scores:
                accuracy["zero_shot"] = score_zero_shot(data).accuracy
            on_epoch(EpochInfo(epoch, record.losses, record.train_weight, value, record.evaluation))
    if trainer.failures:
        raise ExecutionError(trainer.failures[0])
    config = _model_config(task, data, options, variant, seed, None if None in accuracy.values() else accuracy)
    return AdaptedModel(config, trainer.model_state(0), trainer.device.type)


def _fit_task(
    task: Task, method: str, label_set: str, settings: Mapping[str, Any], seed: int, use_target_labels: bool
) -> AdaptedModel:
    """Return the model of a method other than UniMoS. Raises InputError if it has none, or an option does not fit."""
    faults: list[str] = []
    own = parse_method_settings(method, settings, faults)
    if method in METHODS and settings:
        faults.append(f"{method} takes no settings")
    if method not in method_names() or not answers_new_rows(method):
        known = [name for name in method_names() if answers_new_rows(name)]
        faults.append(f"method {method!r} has no model that predicts new images; {suggestions(method, known, 20)}")
    if faults:
        raise InputError("; ".join(faults))
    data = task.loader.pair(task.source, task.target, use_target_labels=use_target_labels).without_taught_labels()
    check_text(data, method)
    joined = join_target_labels(data.task)
    with torch.no_grad():
        output = (
            fit_auto(joined, label_set or None).output if method == AUTO else get_method(method, own, seed).fit(joined)
        )
    scores, zero_shot = score_predictions(output.classes, data.held_out), score_zero_shot(data)
    accuracy = {"last": scores.accuracy, **({"zero_shot": zero_shot.accuracy} if zero_shot else {})} if scores else None
    config = {**_model_config(task, data, MethodSpec(), "", seed, accuracy), "method": method}
    state = {**output.model.state_dict(), "text_features": data.task.text_features}
    return AdaptedModel(config, state, data.task.text_features.device.type)


def _rows(data: PairData) -> dict[str, int]:
    """Return row counts; with the labelled ones if only some rows have a label."""
    rows = {"source": len(data.task.source.features), "target": len(data.task.target.features)}
    labelled, scored = len(data.held_out.labelled), len(data.scored_paths)
    return rows | ({"labelled": labelled, "scored": scored} if 0 < labelled < scored else {})


def _model_config(
    task: Task, data: PairData, options: MethodSpec, variant: str, seed: int, accuracy: Mapping | None
) -> dict:
    """Return the config of an exported model."""
    return {
        "format": FORMAT,
        "classes": list(task.store.spec.classes),
        "encoder": asdict(data.encoder),
        "encoder_id": task.store.folder.name,
        "method": UNIMOS,
        "options": asdict(options),
        "temperature": None,
        "about": {
            "dataset": task.store.spec.name,
            "source": task.source,
            "target": task.target,
            "variant": variant,
            "seed": seed,
            "templates": list(task.loader.templates),
            "accuracy": accuracy,
            "rows": _rows(data),
        },
    }
