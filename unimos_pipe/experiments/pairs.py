"""Stage two for single pairs: each with its seeds, and nothing else around it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unimos_pipe.base.errors import UserError, known_names, listing, shown
from unimos_pipe.base.method_config import MethodSpec, method_spec, with_own_scale
from unimos_pipe.base.progress import SILENT, Watch
from unimos_pipe.base.ray_cluster import Compute
from unimos_pipe.cache.feature_set import FeatureSet, feature_set
from unimos_pipe.experiments.run_plans import TrainedRun, pair_data, plan_loader, train
from unimos_pipe.methods.task import settled
from unimos_pipe.runs.method_names import AUTO, METHODS, TARGET_CLASSES, UNIMOS, protocol_fault
from unimos_pipe.runs.run_spec import RunSpec
from unimos_pipe.runs.write_run import check_place
from unimos_pipe.training.batched_training import OnLine, Outcome, PlannedRun, finished


@dataclass(frozen=True)
class Training:
    """How each pair is trained."""

    variant: str = "full"  # an ablation such as no-im, or fused-teacher, which is ours
    settings: Mapping[str, Any] = field(default_factory=dict)  # changed options, such as {"train.epochs": 20}
    seeds: tuple[int, ...] = (0,)
    protocol: str | None = None  # None: inductive where the data set has test splits
    method: str = UNIMOS  # or another of unimos_pipe.runs.method_names, which has no variant, settings or seeds
    target_classes: str = ""  # for auto: "all" of the classes occur in the target, or "some"; empty: not said
    calibrate: bool = True  # by a companion run for UniMoS, which doubles its time; by five fits more for others

    def options(self, protocol: str) -> MethodSpec:
        """UniMoS's options for a settled protocol. Raises UserError naming everything that does not fit the method."""
        if self.method not in METHODS:
            raise UserError(f"unknown method {self.method!r}; {known_names(self.method, METHODS)}")
        plain, faults = Training(), []
        given = [name for name in ("variant", "settings", "seeds") if getattr(self, name) != getattr(plain, name)]
        if self.method != UNIMOS and given:
            faults.append(f"{self.method} takes no {listing(given)}; only {UNIMOS} does")
        if self.target_classes and self.method != AUTO:
            faults.append(f"{self.method} takes no target classes; only {AUTO} does")
        if self.target_classes not in ("", *TARGET_CLASSES):
            faults.append(f"target classes: expected {' or '.join(TARGET_CLASSES)}, got {shown(self.target_classes)}")
        faults += [fault] if (fault := protocol_fault(self.method, protocol)) else []
        if faults:
            raise UserError("; ".join(faults))
        return method_spec(self.variant, self.settings, "adapt")


@dataclass(frozen=True)
class Place:
    """Where run folders go: below ``runs``, each in its own place, or the run to ``out``."""

    runs: Path = Path("runs")
    out: Path | None = None  # several runs go below it
    force: bool = False  # train again what is finished

    def folder(self, run: RunSpec, pairs: int, seeds: int) -> Path:
        """The folder of one run of so many pairs and seeds."""
        if self.out is None:
            return run.folder(self.runs)
        pair = self.out if pairs == 1 else self.out / f"{run.source}-{run.target}"
        return pair if seeds == 1 else pair / f"seed{run.seed}"


def adapt_pairs(
    features: str | FeatureSet,
    pairs: Sequence[tuple[str, str]],
    training: Training = Training(),
    place: Place = Place(),
    *,
    compute: Compute = Compute(),
    watch: Watch = SILENT,
    on_epoch: OnLine | None = None,
) -> list[TrainedRun]:
    """Adapt from a labelled source to an unlabelled target, pair by pair and seed by seed, and write run folders.

    Args:
        features: cached features, or the name or spec file of a data set whose default ones are meant.
        pairs: (source, target) domains; a source may be several, ``art+photo``.
        on_epoch: called with a run's spec and each line of its ``metrics.jsonl`` as it is made, of runs of UniMoS that
            are trained in this process.
    Returns:
        One value per run, in order; a run that diverged has an error instead of a result. Of several seeds, those that
        are finished are kept and the others trained.
    Raises:
        UserError, StaleCacheError: unknown names, options or values, features that are missing or damaged, a finished
            run of a lone seed without ``force`` whose target has the labels that it had. Nothing is written then.
    """
    features = feature_set(features) if isinstance(features, str) else features
    spec = features.dataset
    pairs = [("+".join(spec.sources(source, target)), target) for source, target in pairs]
    protocol = spec.protocol(training.protocol)
    training.options(protocol)  # its faults show before those of the cache
    variant = training.variant if training.method == UNIMOS else ""
    store, plans = features.store(), []
    if training.method == UNIMOS:
        training = replace(training, settings=with_own_scale(training.settings, store.logit_scale()))
    chosen = training.method, training.target_classes, training.calibrate
    beside = features.templates, settled(training.options(protocol), compute.device), protocol, *chosen
    for source, target in pairs:
        for seed in training.seeds:
            run = RunSpec(spec.name, store.folder.name, source, target, variant, seed, *beside)
            plans.append(PlannedRun(run, place.folder(run, len(pairs), len(training.seeds))))
            check_place(plans[-1].folder, force=True)
    loader = plan_loader(plans, store, compute.device)
    pair_data(plans, loader)  # every fault of the cache shows before a folder is touched
    found = [Outcome(None) if place.force else finished(plan, plan.data(loader)) for plan in plans]
    kept = {}
    for plan, before in zip(plans, found, strict=True):
        if before.kept and not before.relabelled and len(training.seeds) > 1:
            kept[plan.folder] = TrainedRun(plan.spec, plan.folder, before.result, kept=True)
        else:
            check_place(plan.folder, force=place.force or before.relabelled)
    wanted = [plan for plan in plans if plan.folder not in kept]
    relabelled = any(before.relabelled for before in found)
    label = " -> ".join(pairs[0]) if len(pairs) == 1 else f"{len(pairs)} pairs"
    runs, _ = train(wanted, loader, label, compute=compute, watch=watch, keep_finished=relabelled, on_epoch=on_epoch)
    done = kept | {run.folder: run for run in runs}
    return [done[plan.folder] for plan in plans]
