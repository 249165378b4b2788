"""Stage two beside UniMoS as a plain program (``plain.py``): epochs of both in turn, in one process."""

import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from unimos_pipe.base.device import pick_device, training_precision, usable_cores
from unimos_pipe.base.method_config import MethodSpec
from unimos_pipe.base.progress import NO_PROGRESS, ProgressReporter
from unimos_pipe.bench.adapt import SIZES, Size, random_task
from unimos_pipe.bench.reference import ReferenceRun
from unimos_pipe.evaluation.validators import validator_figures, validator_scores
from unimos_pipe.methods.task import AdaptationTask, training_dtype
from unimos_pipe.methods.unimos.trainer import EpochSnapshot, Trainer
from unimos_pipe.methods.unimos.training_run import create_run


@dataclass(frozen=True)
class BenchmarkCandidate:
    """Runs that train together, and their epochs: each step of the iterator trains and evaluates one."""

    name: str
    runs: int
    steps: int  # of an epoch, all runs in each
    epochs: Iterator[None]


@dataclass(frozen=True)
class Timings:
    """What a contestant's epochs took, one per round."""

    name: str
    seconds: tuple[float, ...]  # per run
    faults: tuple[float, ...]  # minor page faults per step, those of the evaluation included

    def ratios(self, plain: "Timings") -> tuple[float, ...]:
        """How many times as fast as the plain program a run was, round by round."""
        return tuple(theirs / ours for theirs, ours in zip(plain.seconds, self.seconds, strict=True))


@dataclass(frozen=True)
class ReferenceComparison:
    """What :func:`bench_compare_reference` measured."""

    size: Size
    device: str
    plain: Timings
    ours: tuple[Timings, ...]
    load: tuple[float, float]  # the machine's load average over a minute, before the rounds and after
    cores_used: float  # CPU seconds of this process per second of the rounds
    cores: int  # that it may use


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
    """Time epochs of the plain program in fp32 and of stacks in turn: training, evaluation and, ours alone, validators.

    Everybody's first epoch is taken before the rounds and does not count.

    Args:
        size: a key of :data:`unimos_pipe.bench.adapt.SIZES`; features are random.
        stacks: how many runs ours train together.
        precisions: values of ``train.precision`` that ours train in; none: the method's.
    Raises:
        InputError: a device that is not there.
    """
    place, chosen = pick_device(device), SIZES[size]
    method = replace(method, train=replace(method.train, epochs=rounds + 1))
    found = dict.fromkeys(training_precision(name, place) for name in precisions or (method.train.precision,))
    contestants = build_candidates(chosen, method, dict.fromkeys(stacks), found, place)
    load, started, used = os.getloadavg()[0], time.perf_counter(), time.process_time()
    with reporter.progress("measuring", rounds * len(contestants), "epochs") as advance:
        plain, *ours = time_in_turns(contestants, rounds, advance)
    share = (time.process_time() - used) / (time.perf_counter() - started)
    return ReferenceComparison(
        chosen, str(place), plain, tuple(ours), (load, os.getloadavg()[0]), share, usable_cores()
    )


def build_candidates(
    size: Size, method: MethodSpec, stacks: Iterable[int], precisions: Iterable[str], device: torch.device
) -> list[BenchmarkCandidate]:
    """The plain program and our stacks, each with its first epoch behind it."""
    tasks = {dtype: random_task(size, device, dtype) for dtype in {torch.float32, *map(training_dtype, precisions)}}
    made = [reference_candidate(tasks[torch.float32], method)]
    for precision in precisions:
        own = replace(method, train=replace(method.train, precision=precision))
        made += [package_candidate(tasks[training_dtype(precision)], own, count) for count in stacks]
    for contestant in made:
        next(contestant.epochs)  # the evaluation before training
        next(contestant.epochs)
    return made


def reference_candidate(task: AdaptationTask, method: MethodSpec) -> BenchmarkCandidate:
    """A run of the plain program. Its first step is the evaluation before training."""
    run = create_run(task, method, 0)
    plain = ReferenceRun(task, method, run.random_streams, run.batch, run.steps)
    return BenchmarkCandidate("plain program", 1, run.steps, (_wait(task) for _ in plain.train()))


def package_candidate(task: AdaptationTask, method: MethodSpec, count: int) -> BenchmarkCandidate:
    """A stack of ``count`` runs by other seeds, with validators. Its first step is the evaluation before training."""
    runs = [create_run(task, method, seed) for seed in range(count)]

    def figures(view: EpochSnapshot) -> dict[str, torch.Tensor]:
        return validator_figures(view.evaluation.probabilities, view.evaluation.bottleneck)

    def epochs() -> Iterator[None]:
        for _, records in Trainer(runs).train(measure=figures):
            for record in records:
                validator_scores(record.measured, *record.evaluation.probabilities.shape)
            yield _wait(task)

    return BenchmarkCandidate(f"{method.train.precision}, stack of {count}", count, runs[0].steps, epochs())


def time_in_turns(
    contestants: Sequence[BenchmarkCandidate],
    rounds: int,
    advance: Callable[[int], None] = lambda count: None,
    *,
    clock: Callable[[], float] = time.perf_counter,
    faults: Callable[[], int] = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt,
) -> list[Timings]:
    """Let each contestant take an epoch per round; who begins changes from round to round."""
    found: dict[str, list[tuple[float, float]]] = {contestant.name: [] for contestant in contestants}
    for turn in range(rounds):
        first = turn % len(contestants)
        for contestant in [*contestants[first:], *contestants[:first]]:
            faulted, started = faults(), clock()
            next(contestant.epochs)
            seconds, more = clock() - started, faults() - faulted
            found[contestant.name].append((seconds / contestant.runs, more / contestant.steps))
            advance(1)
    return [Timings(name, *zip(*pairs, strict=True)) for name, pairs in found.items()]


def _wait(task: AdaptationTask) -> None:
    if task.text_features.is_cuda:
        torch.cuda.synchronize(task.text_features.device)
