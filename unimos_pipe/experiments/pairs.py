"""Adaptation of single pairs, each with its seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unimos_pipe.base.errors import InputError, join_names, suggestions
from unimos_pipe.base.method_config import MethodSpec, method_spec, with_native_logit_scale
from unimos_pipe.base.progress import NO_PROGRESS, ProgressReporter
from unimos_pipe.base.ray_cluster import ComputeConfig
from unimos_pipe.cache.feature_set import FeatureSet, feature_set
from unimos_pipe.data.dataset_spec import OPEN_PROTOCOLS
from unimos_pipe.data.manifest import NO_LABEL
from unimos_pipe.experiments.run_plans import RunResult, apply_stale_policy, execute_plans, load_pairs, open_loader
from unimos_pipe.methods.task import PairLoader, resolve_train_precision
from unimos_pipe.runs.method_names import (
    METHODS,
    UNIMOS,
    is_seeded,
    label_set_faults,
    labels_fault,
    method_names,
    parse_method_settings,
    protocol_fault,
)
from unimos_pipe.runs.run_spec import RunSpec
from unimos_pipe.runs.unknown_option import OFF, unknown_fault
from unimos_pipe.runs.write_run import check_run_folder
from unimos_pipe.training.batched_training import OnMetrics, PlannedRun, RunOutcome, load_finished
from unimos_pipe.training.checkpoint import CHECKPOINTS


@dataclass(frozen=True, kw_only=True)
class AdaptOptions:
    """Training options of each pair."""

    variant: str = "full"  # an ablation such as no-im, or fused-teacher (our extension)
    settings: Mapping[str, Any] = field(default_factory=dict)  # hyperparameters, such as {"train.epochs": 20}
    seeds: tuple[int, ...] = (0,)
    protocol: str | None = None  # None: inductive where the data set has test splits
    method: str = UNIMOS  # other shipped ones (unimos_pipe.runs.method_names) have no variant, settings or seeds
    label_set: str = ""  # for auto: "closed" (the target has every class) or "partial"; empty: unknown
    calibrate: bool = True  # UniMoS: by a calibration run, which doubles its time; others: to the estimated accuracy
    use_target_labels: bool = False  # labelled target rows teach, and are not scored
    unknown: str = OFF  # whether rows of none of the classes are looked for: off, auto, or their share such as "0.2"

    def method_spec(self, protocol: str) -> MethodSpec:
        """Return UniMoS's hyperparameters. Raises InputError with every option that does not fit the method."""
        if self.method not in method_names():
            raise InputError(f"unknown method {self.method!r}; {suggestions(self.method, method_names())}")
        defaults, faults = AdaptOptions(), []
        own = {"seeds"} if is_seeded(self.method) else set()
        own |= set() if self.method in METHODS else {"settings"}
        changed = [name for name in ("variant", "settings", "seeds") if getattr(self, name) != getattr(defaults, name)]
        if self.method != UNIMOS and (changed := [name for name in changed if name not in own]):
            faults.append(f"{self.method} takes no {join_names(changed)}; only {UNIMOS} does")
        parse_method_settings(self.method, self.settings, faults)
        faults += label_set_faults(self.method, self.label_set)
        faults += [fault] if (fault := protocol_fault(self.method, protocol)) else []
        faults += [fault] if self.use_target_labels and (fault := labels_fault(self.method)) else []
        if self.use_target_labels and protocol in OPEN_PROTOCOLS:
            faults.append(f"protocol {protocol} hides classes of the target, whose labels cannot teach then")
        faults += [fault] if (fault := unknown_fault(self.unknown)) else []
        if faults:
            raise InputError("; ".join(faults))
        return method_spec(self.variant, self.settings if self.method == UNIMOS else {}, "adapt")


@dataclass(frozen=True, kw_only=True)
class RunLocation:
    """Location of run folders: each in its default folder below ``runs``, or in ``out``."""

    runs: Path = Path("runs")
    out: Path | None = None  # several runs go below it
    force: bool = False  # retrain finished runs
    keep: bool = False  # reuse a finished run of equal options and features, and replace any other
    stale: str = "keep"  # or rerun, or error: what becomes of finished runs that were made by other code

    def __post_init__(self):
        object.__setattr__(self, "runs", Path(self.runs))  # a string will do
        object.__setattr__(self, "out", None if self.out is None else Path(self.out))

    def folder(self, run: RunSpec, pairs: int, seeds: int) -> Path:
        """Return the folder of a run, given the number of pairs and seeds."""
        if self.out is None:
            return run.folder(self.runs)
        pair = self.out if pairs == 1 else self.out / f"{run.source}-{run.target}"
        return pair if seeds == 1 else pair / f"seed{run.seed}"


def adapt_pairs(
    features: str | FeatureSet,
    pairs: Sequence[tuple[str, str]],
    options: AdaptOptions = AdaptOptions(),
    location: RunLocation = RunLocation(),
    *,
    compute: ComputeConfig = ComputeConfig(),
    reporter: ProgressReporter = NO_PROGRESS,
    on_epoch: OnMetrics | None = None,
) -> list[RunResult]:
    """Adapt from a labelled source to an unlabelled target, for each pair and seed, and write run folders.

    Args:
        features: cached features, or a data set (name or spec file) whose default features are used.
        pairs: (source, target) domains; ``art+photo`` is a source of two domains (multi-source adaptation).
        on_epoch: called with a run's spec and each new line of its ``metrics.jsonl``; only for UniMoS runs trained in
            this process.
    Returns:
        One result per run, in order; a run that diverged has an error instead of a result. With several seeds, finished
        runs are reused and the others trained.
    Raises:
        InputError, StaleCacheError: unknown names, options or values; features that are missing or damaged; or, for a
            single seed without ``force``, a finished run with unchanged labels. Nothing has been written then.
    """
    features = feature_set(features) if isinstance(features, str) else features
    spec = features.dataset
    pairs = [("+".join(spec.parse_sources(source, target)), target) for source, target in pairs]
    protocol = spec.protocol(options.protocol)
    options.method_spec(protocol)  # reports faults of the options before those of the cache
    store = features.store()
    if options.method == UNIMOS:
        options = replace(options, settings=with_native_logit_scale(options.settings, store.read_logit_scale()))
    method = resolve_train_precision(options.method_spec(protocol), compute.device)
    plans = _plan_runs(features, store.folder.name, pairs, options, method, protocol, location)
    loader = open_loader(plans, store, compute.device)
    plans = apply_stale_policy(plans, loader, location.stale)
    load_pairs(plans, loader)  # reports every fault of the cache before a folder is changed
    reused, relabelled = _reuse_finished(plans, loader, location, several_seeds=len(options.seeds) > 1)
    open_plans = [plan for plan in plans if plan.folder not in reused]
    label = " -> ".join(pairs[0]) if len(pairs) == 1 else f"{len(pairs)} pairs"
    runs, _ = execute_plans(
        open_plans,
        loader,
        label,
        compute=compute,
        reporter=reporter,
        keep_finished=relabelled,
        checkpoints=(location.out.parent if location.out else location.runs) / CHECKPOINTS,
        on_epoch=on_epoch,
    )
    results = reused | {run.folder: run for run in runs}
    return [results[plan.folder] for plan in plans]


def labels_can_teach(features: FeatureSet, target: str, method: str, protocol: str | None = None) -> bool:
    """Return whether an extracted target has labels from which runs of a method can learn."""
    protocol = features.dataset.protocol(protocol)
    if labels_fault(method) or protocol in OPEN_PROTOCOLS:
        return False
    parts = features.dataset.parts(target)
    domain = features.store().domain(*(parts[:1] if protocol == "inductive" else parts))
    return bool((domain.labels != NO_LABEL).any())


def _plan_runs(
    features: FeatureSet,
    encoder_id: str,
    pairs: Sequence[tuple[str, str]],
    options: AdaptOptions,
    method: MethodSpec,
    protocol: str,
    location: RunLocation,
) -> list[PlannedRun]:
    """Return one run per pair and seed. Raises InputError if a folder holds something other than a run."""
    template = RunSpec(
        dataset=features.dataset.cache_name,
        encoder_id=encoder_id,
        source="",
        target="",
        variant=options.variant if options.method == UNIMOS else "",
        seed=0,
        templates=features.templates,
        options=method,
        protocol=protocol,
        method=options.method,
        label_set=options.label_set,
        calibrate=options.calibrate,
        use_target_labels=options.use_target_labels,
        unknown=options.unknown,
        settings=parse_method_settings(options.method, options.settings, []),
    )
    plans = []
    for source, target in pairs:
        for seed in options.seeds:
            run = replace(template, source=source, target=target, seed=seed)
            plans.append(PlannedRun(run, location.folder(run, len(pairs), len(options.seeds))))
            check_run_folder(plans[-1].folder, force=True)
    return plans


def _reuse_finished(
    plans: Sequence[PlannedRun], loader: PairLoader, location: RunLocation, *, several_seeds: bool
) -> tuple[dict[Path, RunResult], bool]:
    """Return the finished runs of several seeds by folder, and whether the labels of any run have changed.

    Raises:
        InputError: a folder may not be written, or, for a single seed without ``force``, holds a finished run.
    """
    previous = [RunOutcome(None) if location.force else load_finished(plan, plan.load_data(loader)) for plan in plans]
    reused = {}
    for plan, outcome in zip(plans, previous, strict=True):
        if outcome.reused and not outcome.relabelled and (several_seeds or location.keep):
            reused[plan.folder] = RunResult(plan.spec, plan.folder, outcome.result, None, True, outcome.changed_code)
        else:
            run_again = bool(outcome.changed_code) and not outcome.reused
            check_run_folder(plan.folder, force=location.force or location.keep or outcome.relabelled or run_again)
    return reused, any(outcome.relabelled for outcome in previous)
