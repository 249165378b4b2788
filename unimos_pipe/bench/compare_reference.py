"""Comparison of stage two with the reference program (``reference.py``): alternating epochs in one process."""

import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from unimos_pipe.base.device import pick_device, precision_on_device
from unimos_pipe.base.fork_pool import count_usable_cores
from unimos_pipe.base.method_config import MethodSpec
from unimos_pipe.base.progress import NO_PROGRESS, ProgressReporter
from unimos_pipe.bench.adapt import SIZES, Size, random_task, synchronize
from unimos_pipe.bench.reference import ReferenceRun
from unimos_pipe.evaluation.validators import validator_scores, validator_tensors
from unimos_pipe.methods.task import AdaptationTask, training_dtype
from unimos_pipe.methods.unimos.trainer import EpochSnapshot, Trainer
from unimos_pipe.methods.unimos.training_run import create_run


@dataclass(frozen=True)
class BenchmarkCandidate:
    """Runs that train together; each step of ``epochs`` trains and evaluates one epoch."""

    name: str
    runs: int
    steps: int  # per epoch
    epochs: Iterator[None]


@dataclass(frozen=True)
class Timings:
    """Seconds and page faults of a candidate's epochs, one per round."""

    name: str
    seconds: tuple[float, ...]  # per run
    faults: tuple[float, ...]  # minor page faults per step, with evaluation

    def ratios(self, reference: "Timings") -> tuple[float, ...]:
        """Return the speedup over the reference program per round."""
        return tuple(
            reference_seconds / own_seconds
            for reference_seconds, own_seconds in zip(reference.seconds, self.seconds, strict=True)
        )


@dataclass(frozen=True)
class ReferenceComparison:
    """Result of :func:`bench_compare_reference`."""

    size: Size
    device: str
    reference: Timings
    stacks: tuple[Timings, ...]
    load: tuple[float, float]  # the machine's one-minute load average before and after the rounds
    cores_used: float  # CPU seconds of this process per second
    cores: int  # available to this process


def bench_compare_reference(
    size: str = "office_home",
    method: MethodSpec = MethodSpec(),
    stacks: Sequence[int] = (1, 12),
    precisions: Sequence[str] = (),
    rounds: int = 7,
    *,
    device: str = "auto",
    reporter: ProgressReporter = NO_PROGRESS,
) -> ReferenceComparison:
    """Time epochs of the fp32 reference program and of stacks in turn: training, evaluation, and validators of stacks.

    The first epoch of each candidate is run before the rounds and not counted.

    Args:
        size: a key of :data:`unimos_pipe.bench.adapt.SIZES`; features are random.
        stacks: stack sizes of the package.
        precisions: values of ``train.precision`` for the stacks; empty takes the method's.
    Raises:
        InputError: the device is not available.
    """
    torch_device, task_size = pick_device(device), SIZES[size]
    method = replace(method, train=replace(method.train, epochs=rounds + 1))
    resolved = dict.fromkeys(
        precision_on_device(name, torch_device) for name in precisions or (method.train.precision,)
    )
    candidates = build_candidates(task_size, method, dict.fromkeys(stacks), resolved, torch_device)
    load, started, cpu_started = os.getloadavg()[0], time.perf_counter(), time.process_time()
    with reporter.progress("measuring", rounds * len(candidates), "epochs") as advance:
        reference, *stack_timings = time_in_turns(candidates, rounds, advance)
    cores_used = (time.process_time() - cpu_started) / (time.perf_counter() - started)
    return ReferenceComparison(
        task_size,
        str(torch_device),
        reference,
        tuple(stack_timings),
        (load, os.getloadavg()[0]),
        cores_used,
        count_usable_cores(),
    )


def build_candidates(
    size: Size, method: MethodSpec, stacks: Iterable[int], precisions: Iterable[str], device: torch.device
) -> list[BenchmarkCandidate]:
    """Return the reference program and the stacks, each after its first epoch."""
    tasks = {dtype: random_task(size, device, dtype) for dtype in {torch.float32, *map(training_dtype, precisions)}}
    candidates = [reference_candidate(tasks[torch.float32], method)]
    for precision in precisions:
        precision_method = replace(method, train=replace(method.train, precision=precision))
        candidates += [package_candidate(tasks[training_dtype(precision)], precision_method, count) for count in stacks]
    for candidate in candidates:
        next(candidate.epochs)  # the evaluation before training
        next(candidate.epochs)
    return candidates


def reference_candidate(task: AdaptationTask, method: MethodSpec) -> BenchmarkCandidate:
    """Return a run of the reference program. Its first step is the evaluation before training."""
    run = create_run(task, method, 0)
    reference = ReferenceRun(task, method, run.random_streams, run.batch, run.steps)
    epochs = (synchronize(task.text_features.device) for _ in reference.train())
    return BenchmarkCandidate("reference program", 1, run.steps, epochs)


def package_candidate(task: AdaptationTask, method: MethodSpec, count: int) -> BenchmarkCandidate:
    """Return a stack of ``count`` seeds with validators. Its first step is the evaluation before training."""
    runs = [create_run(task, method, seed) for seed in range(count)]

    def figures(view: EpochSnapshot) -> dict[str, torch.Tensor]:
        return validator_tensors(view.evaluation.probabilities, view.evaluation.bottleneck)

    def epochs() -> Iterator[None]:
        for _, records in Trainer(runs).train(measure=figures):
            for record in records:
                validator_scores(record.measured, *record.evaluation.probabilities.shape)
            yield synchronize(task.text_features.device)

    return BenchmarkCandidate(f"{method.train.precision}, stack of {count}", count, runs[0].steps, epochs())


def time_in_turns(
    candidates: Sequence[BenchmarkCandidate],
    rounds: int,
    advance: Callable[[int], None] = lambda count: None,
    *,
    clock: Callable[[], float] = time.perf_counter,
    faults: Callable[[], int] = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt,
) -> list[Timings]:
    """Time one epoch of each candidate per round; the first candidate changes with each round."""
    measurements: dict[str, list[tuple[float, float]]] = {candidate.name: [] for candidate in candidates}
    for turn in range(rounds):
        offset = turn % len(candidates)
        for candidate in [*candidates[offset:], *candidates[:offset]]:
            faults_before, started = faults(), clock()
            next(candidate.epochs)
            seconds, new_faults = clock() - started, faults() - faults_before
            measurements[candidate.name].append((seconds / candidate.runs, new_faults / candidate.steps))
            advance(1)
    return [Timings(name, *zip(*pairs, strict=True)) for name, pairs in measurements.items()]
