"""Stage two beside UniMoS as a plain program (``plain.py``): epochs of both in turn, in one process."""

import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from unimos_pipe.base.device import pick_device, training_precision, usable_cores
from unimos_pipe.base.method_config import MethodSpec
from unimos_pipe.base.progress import SILENT, Watch
from unimos_pipe.bench.adapt import SIZES, Size, made_task
from unimos_pipe.bench.reference import PlainRun
from unimos_pipe.evaluation.validators import validator_figures, validator_scores
from unimos_pipe.methods.task import AdaptationTask, training_dtype
from unimos_pipe.methods.unimos.trainer import Trainer, View
from unimos_pipe.methods.unimos.training_run import seeded_run


@dataclass(frozen=True)
class Contestant:
    """Runs that train together, and their epochs: each step of the iterator trains and evaluates one."""

    name: str
    runs: int
    steps: int  # of an epoch, all runs in each
    epochs: Iterator[None]


@dataclass(frozen=True)
class Turns:
    """What a contestant's epochs took, one per round."""

    name: str
    seconds: tuple[float, ...]  # per run
    faults: tuple[float, ...]  # minor page faults per step, those of the evaluation included

    def ratios(self, plain: "Turns") -> tuple[float, ...]:
        """How many times as fast as the plain program a run was, round by round."""
        return tuple(theirs / ours for theirs, ours in zip(plain.seconds, self.seconds, strict=True))


@dataclass(frozen=True)
class AgainstPlain:
    """What :func:`bench_against_plain` measured."""

    size: Size
    device: str
    plain: Turns
    ours: tuple[Turns, ...]
    load: tuple[float, float]  # the machine's load average over a minute, before the rounds and after
    cores_used: float  # CPU seconds of this process per second of the rounds
    cores: int  # that it may use


def bench_against_plain(
    size: str = "office_home",
    method: MethodSpec = MethodSpec(),
    stacks: Sequence[int] = (1, 12),
    precisions: Sequence[str] = (),
    rounds: int = 7,
    *,
    device: str = "auto",
    watch: Watch = SILENT,
) -> AgainstPlain:
    """Time epochs of the plain program in fp32 and of stacks in turn: training, evaluation and, ours alone, validators.

    Everybody's first epoch is taken before the rounds and does not count.

    Args:
        size: a key of :data:`unimos_pipe.bench.adapt.SIZES`; features are random.
        stacks: how many runs ours train together.
        precisions: values of ``train.precision`` that ours train in; none: the method's.
    Raises:
        UserError: a device that is not there.
    """
    place, chosen = pick_device(device), SIZES[size]
    method = replace(method, train=replace(method.train, epochs=rounds + 1))
    found = dict.fromkeys(training_precision(name, place) for name in precisions or (method.train.precision,))
    contestants = made_contestants(chosen, method, dict.fromkeys(stacks), found, place)
    load, started, used = os.getloadavg()[0], time.perf_counter(), time.process_time()
    with watch.progress("measuring", rounds * len(contestants), "epochs") as advance:
        plain, *ours = take_turns(contestants, rounds, advance)
    share = (time.process_time() - used) / (time.perf_counter() - started)
    return AgainstPlain(chosen, str(place), plain, tuple(ours), (load, os.getloadavg()[0]), share, usable_cores())


def made_contestants(
    size: Size, method: MethodSpec, stacks: Iterable[int], precisions: Iterable[str], device: torch.device
) -> list[Contestant]:
    """The plain program and our stacks, each with its first epoch behind it."""
    tasks = {dtype: made_task(size, device, dtype) for dtype in {torch.float32, *map(training_dtype, precisions)}}
    made = [plain_contestant(tasks[torch.float32], method)]
    for precision in precisions:
        own = replace(method, train=replace(method.train, precision=precision))
        made += [our_contestant(tasks[training_dtype(precision)], own, count) for count in stacks]
    for contestant in made:
        next(contestant.epochs)  # the evaluation before training
        next(contestant.epochs)
    return made


def plain_contestant(task: AdaptationTask, method: MethodSpec) -> Contestant:
    """A run of the plain program. Its first step is the evaluation before training."""
    run = seeded_run(task, method, 0)
    plain = PlainRun(task, method, run.draws, run.batch, run.steps)
    return Contestant("plain program", 1, run.steps, (_wait(task) for _ in plain.train()))


def our_contestant(task: AdaptationTask, method: MethodSpec, count: int) -> Contestant:
    """A stack of ``count`` runs by other seeds, with validators. Its first step is the evaluation before training."""
    runs = [seeded_run(task, method, seed) for seed in range(count)]

    def figures(view: View) -> dict[str, torch.Tensor]:
        return validator_figures(view.assessment.probabilities, view.assessment.bottleneck)

    def epochs() -> Iterator[None]:
        for _, records in Trainer(runs).train(measure=figures):
            for record in records:
                validator_scores(record.measured, *record.assessment.probabilities.shape)
            yield _wait(task)

    return Contestant(f"{method.train.precision}, stack of {count}", count, runs[0].steps, epochs())


def take_turns(
    contestants: Sequence[Contestant],
    rounds: int,
    advance: Callable[[int], None] = lambda count: None,
    *,
    clock: Callable[[], float] = time.perf_counter,
    faults: Callable[[], int] = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt,
) -> list[Turns]:
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
    return [Turns(name, *zip(*pairs, strict=True)) for name, pairs in found.items()]


def _wait(task: AdaptationTask) -> None:
    if task.text_features.is_cuda:
        torch.cuda.synchronize(task.text_features.device)
