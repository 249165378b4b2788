"""Training of a plan on Ray: stacks, calibration runs and fits of other methods are jobs."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from unimos_pipe.base.ray_cluster import RayCluster
from unimos_pipe.cache.store import FeatureStore
from unimos_pipe.methods.task import PairLoader
from unimos_pipe.methods.unimos.training_run import create_run
from unimos_pipe.runs.run_spec import RunSpec
from unimos_pipe.runs.run_values import Calibration
from unimos_pipe.training.batched_training import PlannedRun, RunOutcome, train_runs
from unimos_pipe.training.batching import plan_stacks
from unimos_pipe.training.calibration_runs import calibration_spec, calibration_specs, fit_calibrations
from unimos_pipe.training.fit_methods import fit_runs


@dataclass(frozen=True)
class RayTraining:
    """The functions that train a plan, on a cluster whose machines share the cache and the runs folder.

    Jobs are sized by the cluster, so that all of it trains. Results do not depend on the jobs: they are those of local
    training with ``options.cpus`` threads. A job whose machine was lost resumes from its checkpoint.
    """

    cluster: RayCluster

    def prepare(self, plans: Sequence[PlannedRun], loader: PairLoader, **settings: Any) -> None:
        """Leave the estimates to the jobs."""

    def train_calibrated(
        self, plans: Sequence[PlannedRun], loader: PairLoader, *, on_epochs: Callable[[int], None], **settings: Any
    ) -> list[RunOutcome]:
        """Train the calibration runs of a plan, then its runs."""
        calibrations = self.fit_calibrations(plans, loader, on_epochs=on_epochs, **settings)
        return self.train_runs(plans, loader, on_epochs=on_epochs, calibrations=calibrations, **settings)

    def fit_calibrations(
        self,
        plans: Sequence[PlannedRun],
        loader: PairLoader,
        *,
        on_epochs: Callable[[int], None],
        checkpoints: Path | None,
        **settings: Any,
    ) -> dict[RunSpec, Calibration]:
        """Do :func:`unimos_pipe.training.calibration_runs.fit_calibrations`, in as many jobs as run at once."""
        if not (specs := calibration_specs(plans)):
            return {}
        count = min(len(specs), self.cluster.concurrent_jobs)
        jobs = [
            [plan for plan in plans if calibration_spec(plan.spec) in specs[start::count]] for start in range(count)
        ]
        shared = {"checkpoints": checkpoints and checkpoints.absolute(), **settings}
        fitted = self._run(_fit_calibrations, jobs, loader, shared, on_epochs)
        return {spec: calibration for _, calibrations in fitted for spec, calibration in calibrations.items()}

    def train_runs(
        self,
        plans: Sequence[PlannedRun],
        loader: PairLoader,
        *,
        stack_size: int | None,
        on_epochs: Callable[[int], None],
        checkpoints: Path | None,
        **settings: Any,
    ) -> list[RunOutcome]:
        """Do :func:`unimos_pipe.training.batched_training.train_runs`; each stack is a job."""
        options = [plan.spec.options for plan in plans]
        tasks = [plan.load_data(loader).task for plan in plans]
        runs = [create_run(*args) for args in zip(tasks, options, [plan.spec.seed for plan in plans], strict=True)]
        stacks = plan_stacks(
            runs,
            stack_size,
            loader.device,
            processes=self.cluster.concurrent_jobs,
            sharing_memory=self._jobs_per_device(loader.device),
        ).stacks
        shared = {"checkpoints": checkpoints and checkpoints.absolute(), **settings}
        jobs = [[plans[index] for index in members] for members in stacks]
        return _in_order(plans, self._run(_train_stack, jobs, loader, shared, on_epochs))

    def fit_runs(
        self, plans: Sequence[PlannedRun], loader: PairLoader, *, on_fits: Callable[[int], None], **settings: Any
    ) -> list[RunOutcome]:
        """Do :func:`unimos_pipe.training.fit_methods.fit_runs`; the methods of a pair are a job."""
        pairs: dict[tuple, list[PlannedRun]] = {}
        for plan in plans:
            pairs.setdefault((plan.spec.source, plan.spec.target), []).append(plan)
        return _in_order(plans, self._run(_fit_pair, list(pairs.values()), loader, settings, on_fits))

    def _run(
        self,
        function: Callable,
        jobs: Sequence[Sequence[PlannedRun]],
        loader: PairLoader,
        settings: Mapping[str, Any],
        on_count: Callable[[int], None],
    ) -> Iterator[tuple[Sequence[PlannedRun], Any]]:
        """Yield jobs and their results. Workers may run on other machines, so paths are absolute."""
        jobs = [[replace(plan, folder=plan.folder.absolute()) for plan in job] for job in jobs]
        store = FeatureStore(loader.store.spec, loader.store.folder.absolute(), loader.store.call)
        loader = PairLoader(store, loader.templates, loader.device)
        threads = max(1, int(self.cluster.options.cpus))
        return self.cluster.run(function, jobs, loader, dict(settings), threads, on_count=on_count)

    def _jobs_per_device(self, device: torch.device) -> int:
        """Return how many jobs share the memory of one GPU or machine."""
        gpus = self.cluster.options.gpus
        return math.ceil(1 / gpus) if device.type == "cuda" and gpus else self.cluster.jobs_per_machine


def _in_order(
    plans: Sequence[PlannedRun], finished: Iterable[tuple[Sequence[PlannedRun], Sequence[RunOutcome]]]
) -> list[RunOutcome]:
    outcomes = {plan.folder: outcome for job, trained in finished for plan, outcome in zip(job, trained, strict=True)}
    return [outcomes[plan.folder.absolute()] for plan in plans]


def _fit_calibrations(job, loader, settings, threads, count) -> dict[RunSpec, Calibration]:
    """Train calibration runs in a worker process."""
    torch.set_num_threads(threads)
    return fit_calibrations(job, loader, on_epochs=count, **settings)


def _train_stack(job, loader, settings, threads, count) -> list[RunOutcome]:
    """Train one stack in a worker process."""
    torch.set_num_threads(threads)
    settings = dict(settings)
    calibrations = settings.pop("calibrations")
    return train_runs(
        job, loader, stack_size=len(job), on_epochs=count, get_calibrations=lambda: calibrations, **settings
    )


def _fit_pair(job, loader, settings, threads, count) -> list[RunOutcome]:
    """Fit the other methods of one pair in a worker process."""
    torch.set_num_threads(threads)
    return fit_runs(job, loader, on_fits=count, **settings)
