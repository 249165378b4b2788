"""Stage two, composed: planned runs are grouped into stacks, trained from cached features, and recorded."""

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unimos_pipe import __version__
from unimos_pipe.config import fingerprint
from unimos_pipe.run import (
    RunRecorder,
    RunSpec,
    finished_result,
    run_identity,
    sample_features,
    untrained_sample,
)
from unimos_pipe.task import PairLoader
from unimos_pipe.trainer import Trainer, TrainingRun, seeded_run, stack_key

DTYPES = {"fp32": torch.float32, "fp64": torch.float64}


@dataclass(frozen=True)
class PlannedRun:
    """A run and the folder it goes to."""

    spec: RunSpec
    folder: Path


def adapt(
    plans: Sequence[PlannedRun],
    loader: PairLoader,
    *,
    lockstep: int = 36,
    on_epoch: Callable[[int], None] = lambda runs: None,
) -> list[dict[str, Any]]:
    """Train planned runs, those of equal shapes in lockstep, and write their folders.

    Args:
        loader: loads the pairs; its dtype must be that of the runs' ``train.precision``.
        lockstep: most runs in one stack.
        on_epoch: called with the number of runs that finished another epoch.
    Returns:
        The runs' results, in the order of ``plans``.
    """
    data = [loader.pair(plan.spec.source, plan.spec.target) for plan in plans]
    runs = [seeded_run(pair.task, plan.spec.method, plan.spec.seed) for plan, pair in zip(plans, data, strict=True)]
    results: dict[int, dict[str, Any]] = {}
    for members in _stacks(runs, lockstep):
        company = fingerprint([fingerprint(plans[index].spec) for index in members]) if len(members) > 1 else None
        recorders = [RunRecorder(plans[index].folder, plans[index].spec, data[index]) for index in members]
        extra = {"stack": {"runs": len(members), "fingerprint": company}, "environment": _environment(loader.device)}
        for recorder in recorders:
            recorder.start(extra)
        for index, result in zip(members, _train_stack([runs[i] for i in members], recorders, on_epoch), strict=True):
            results[index] = result
    return [results[index] for index in range(len(plans))]


def adapt_missing(
    plans: Sequence[PlannedRun],
    loader: PairLoader,
    *,
    lockstep: int = 36,
    on_epoch: Callable[[int], None] = lambda runs: None,
) -> tuple[list[dict[str, Any]], int]:
    """Like :func:`adapt`, but runs that are finished and were made from the same spec and shards are kept.

    Returns:
        The results in the order of ``plans``, and how many runs were trained.
    """
    found = []
    for plan in plans:
        digests = loader.pair(plan.spec.source, plan.spec.target).shard_digests
        found.append(finished_result(plan.folder, run_identity(plan.spec, digests)))
        if found[-1] is not None:
            on_epoch(plan.spec.method.train.epochs)
    missing = [plan for plan, result in zip(plans, found, strict=True) if result is None]
    fresh = iter(adapt(missing, loader, lockstep=lockstep, on_epoch=on_epoch))
    return [next(fresh) if result is None else result for result in found], len(missing)


def _stacks(runs: Sequence[TrainingRun], lockstep: int) -> Iterator[list[int]]:
    """Positions of the runs of each stack: equal keys together, at most ``lockstep`` at once."""
    groups: dict[tuple, list[int]] = {}
    for index, run in enumerate(runs):
        groups.setdefault(stack_key(run), []).append(index)
    for members in groups.values():
        for start in range(0, len(members), lockstep):
            yield members[start : start + lockstep]


def _train_stack(runs: list[TrainingRun], recorders: list[RunRecorder], on_epoch: Callable[[int], None]):
    started = time.perf_counter()
    trainer = Trainer(runs)
    before = [untrained_sample(run.task, trainer.eval_heads(index)) for index, run in enumerate(runs)]
    last_epoch = runs[0].method.train.epochs - 1
    final = {}
    for record in trainer.train():
        recorders[record.run].add(record)
        if record.epoch == last_epoch:
            final[record.run] = record.assessment
        if record.run == len(runs) - 1 and record.epoch >= 0:
            on_epoch(len(runs))
    seconds = (time.perf_counter() - started) / len(runs)
    return [
        recorder.finish(
            final[index],
            trainer.state(index),
            sample_features(recorder.data.task, before[index], trainer.eval_heads(index)),
            seconds,
        )
        for index, recorder in enumerate(recorders)
    ]


def _environment(device: torch.device) -> dict[str, str]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "unimos-pipe": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": device.type,
        "hardware": name,
        "threads": str(torch.get_num_threads()),
    }
