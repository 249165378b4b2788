"""A recipe's runs below one folder: planned as a whole, trained in stacks, resumable, read against baselines."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from unimos_pipe.adapt.stacks import TRAINING_DTYPES, PlannedRun, finished, stacks
from unimos_pipe.base.errors import UserError
from unimos_pipe.cache.store import FeatureStore
from unimos_pipe.data.manifest import DatasetSpec
from unimos_pipe.methods.task import PairData, PairLoader
from unimos_pipe.methods.unimos.trainer import Trainer, TrainingRun, seeded_run
from unimos_pipe.runs.recipe import Recipe


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep would do: runs in all, finished ones, steps to train, stacks, and expected seconds."""

    runs: int
    finished: int
    steps: int
    stacks: int
    seconds: float


def plan_runs(recipe: Recipe, spec: DatasetSpec, encoder_id: str, folder: Path) -> list[PlannedRun]:
    """Every run of a recipe with its place below the recipe's own folder."""
    return [PlannedRun(run, run.folder(folder)) for run in recipe.runs(spec, encoder_id)]


def plan_loader(plans: Sequence[PlannedRun], store: FeatureStore, device: torch.device) -> PairLoader:
    """The loader that a plan needs: its prompts, and the dtype of its training precision.

    Raises:
        UserError: runs of different training precision, which one plan cannot mix.
    """
    precisions = {plan.spec.method.train.precision for plan in plans}
    if len(precisions) > 1:
        raise UserError(f"train.precision takes one value per sweep, got {', '.join(sorted(precisions))}")
    return PairLoader(store, plans[0].spec.templates, TRAINING_DTYPES[precisions.pop()], device)


def pair_data(plans: Sequence[PlannedRun], loader: PairLoader) -> dict[str, PairData]:
    """The data of every pair of a plan, by ``source->target``. Raises what :meth:`PairLoader.pair` raises."""
    pairs = dict.fromkeys((plan.spec.source, plan.spec.target, plan.spec.protocol) for plan in plans)
    return {f"{source}->{target}": loader.pair(source, target, protocol) for source, target, protocol in pairs}


def estimate(plans: Sequence[PlannedRun], loader: PairLoader, lockstep: int | None) -> SweepPlan:
    """Count the work and time one epoch of the first stack to tell how long the rest takes."""
    pairs = pair_data(plans, loader)
    data = [pairs[f"{plan.spec.source}->{plan.spec.target}"] for plan in plans]
    runs = [seeded_run(pair.task, plan.spec.method, plan.spec.seed) for plan, pair in zip(plans, data, strict=True)]
    done = [finished(plan, pair).kept for plan, pair in zip(plans, data, strict=True)]
    open_stacks = [members for members in stacks(runs, lockstep) if not all(done[i] for i in members)]
    steps = [sum(_total_steps(runs[i]) for i in members) for members in open_stacks]
    seconds = 0.0
    if open_stacks:
        members = [runs[i] for i in open_stacks[0]]
        seconds = epoch_seconds(members) / sum(run.steps for run in members) * sum(steps)
    return SweepPlan(len(plans), sum(done), sum(steps), len(open_stacks), seconds)


def _total_steps(run: TrainingRun) -> int:
    return run.steps * run.method.train.epochs


def epoch_seconds(runs: list[TrainingRun]) -> float:
    """Seconds of one epoch with its evaluation, after the evaluation before training has warmed up the machine."""
    started = 0.0
    for epoch, records in Trainer(runs).train():
        for _ in records:
            pass
        if epoch == 0:
            return time.perf_counter() - started
        started = time.perf_counter()
    raise AssertionError("a run has at least one epoch")
