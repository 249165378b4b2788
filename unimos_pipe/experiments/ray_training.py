"""Training of a plan's stacks on Ray: each stack is one job."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from unimos_pipe.base.ray_cluster import RayOptions, run_ray_jobs
from unimos_pipe.cache.store import FeatureStore
from unimos_pipe.methods.task import PairLoader
from unimos_pipe.methods.unimos.training_run import create_run
from unimos_pipe.runs.run_spec import RunSpec
from unimos_pipe.runs.run_values import Calibration
from unimos_pipe.training.batched_training import PlannedRun, RunOutcome, train_runs
from unimos_pipe.training.batching import plan_stacks


def train_on_ray(
    plans: Sequence[PlannedRun],
    loader: PairLoader,
    *,
    stack_size: int | None,
    keep_finished: bool,
    checkpoints: Path | None,
    on_epochs: Callable[[int], None],
    options: RayOptions,
    calibrations: Mapping[RunSpec, Calibration],
) -> list[RunOutcome]:
    """Train on a cluster, as :func:`unimos_pipe.training.batched_training.train_runs` does locally.

    The machines share the cache and the runs folder. The stacks are planned here as for local training, so results do
    not depend on where a stack ran. A stack whose machine was lost resumes from its checkpoint.
    """
    plans = [replace(plan, folder=plan.folder.absolute()) for plan in plans]
    store = FeatureStore(loader.store.spec, loader.store.folder.absolute(), loader.store.call)
    pairs = [plan.load_data(loader) for plan in plans]
    runs = [create_run(pair.task, plan.spec.options, plan.spec.seed) for plan, pair in zip(plans, pairs, strict=True)]
    groups = plan_stacks(runs, stack_size, loader.device).stacks
    outcomes: dict[int, RunOutcome] = {}
    with run_ray_jobs(options) as run:
        shared = (plans, PairLoader(store, loader.templates, loader.device), keep_finished, dict(calibrations))
        folder = checkpoints and checkpoints.absolute()
        for members, trained in run(_train, groups, *shared, folder, max(1, int(options.cpus))):
            outcomes.update(zip(members, trained, strict=True))
            on_epochs(sum(plans[index].spec.options.train.epochs for index in members))
    return [outcomes[index] for index in range(len(plans))]


def _train(
    members: Sequence[int],
    plans: Sequence[PlannedRun],
    loader: PairLoader,
    keep_finished: bool,
    calibrations: Mapping[RunSpec, Calibration],
    checkpoints: Path | None,
    threads: int,
) -> list[RunOutcome]:
    """Train one stack in a worker process."""
    torch.set_num_threads(threads)
    stack = [plans[index] for index in members]
    return train_runs(
        stack,
        loader,
        stack_size=len(members),
        keep_finished=keep_finished,
        checkpoints=checkpoints,
        calibrations=calibrations,
    )
