"""Benchmark of stage two, relative to the matrix-product rate of the machine measured in the same run."""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F

from unimos_pipe.base.device import gather_to_cpu, pick_device
from unimos_pipe.base.method_config import MethodSpec
from unimos_pipe.evaluation.validators import validator_scores, validator_tensors
from unimos_pipe.methods.task import (
    AdaptationTask,
    LabelledFeatures,
    UnlabelledFeatures,
    resolve_train_precision,
    training_dtype,
)
from unimos_pipe.methods.unimos.heads import Heads
from unimos_pipe.methods.unimos.pseudo_labels import evaluate_target
from unimos_pipe.methods.unimos.trainer import Trainer, no_measure
from unimos_pipe.methods.unimos.training_run import create_run


@dataclass(frozen=True)
class Size:
    """Size of a task."""

    source_rows: int
    target_rows: int
    dim: int
    classes: int


SIZES = {
    "office_home": Size(2427, 4365, 1024, 65),  # A->C with RN50
    "icons": Size(624, 716, 128, 36),
    "domainnet": Size(120_000, 120_000, 512, 345),
}


@dataclass(frozen=True)
class StepTimes:
    """Result of :func:`measure_adapt`; times in seconds."""

    matmul_rate: float  # FLOP/s of a large matrix product in the training dtype
    step_flops: int
    step: float
    epoch: float
    evaluation: float
    runs_per_second: dict[int, float]  # stack size -> complete runs, with evaluation
    peak_memory: int  # bytes

    @property
    def step_rate(self) -> float:
        """FLOP rate of a single run's step as a fraction of the matrix-product rate."""
        return self.step_flops / self.step / self.matmul_rate


def step_flops(size: Size, method: MethodSpec, batch: int) -> int:
    """Return the FLOPs (two per multiply-add) of the matrix products in one run's training step.

    A separator costs a forward and a weight-gradient product (its input needs no gradient), the bottleneck an
    input-gradient product as well; the weight generator is a vector; text logits have no trained weights; the
    discriminator sees 4B rows, of which 2B reach its weights; the teacher is forward only.
    """
    heads, rows = method.heads, 2 * batch
    separators = 2 * 2 * rows * size.dim**2
    bottleneck = 3 * rows * size.dim * heads.bottleneck_dim
    classifier = 3 * rows * heads.bottleneck_dim * size.classes
    weight = 3 * size.dim * (batch + heads.weight_hidden)
    discriminator = (2 * 2 * rows + rows) * size.dim * heads.discriminator_hidden
    text = (2 * rows + batch) * size.dim * size.classes
    return 2 * (separators + bottleneck + classifier + weight + discriminator + text)


def random_task(size: Size, device: torch.device, dtype: torch.dtype, seed: int = 0) -> AdaptationTask:
    """Return a task of random unit-norm rows."""
    g = torch.Generator().manual_seed(seed)

    def rows(count: int) -> torch.Tensor:
        return F.normalize(torch.randn(count, size.dim, generator=g, dtype=torch.float32), dim=-1).to(device, dtype)

    labels = torch.randint(size.classes, (size.source_rows,), generator=g).to(device)
    return AdaptationTask(
        LabelledFeatures(rows(size.source_rows), labels), UnlabelledFeatures(rows(size.target_rows)), rows(size.classes)
    )


@dataclass(frozen=True)
class AdaptBench:
    """Result of :func:`bench_adapt`: size, device, times, and shares of operators if profiled."""

    size: Size
    device: str
    times: StepTimes
    shares: tuple[tuple[str, float], ...]


def bench_adapt(
    size: str = "office_home",
    method: MethodSpec = MethodSpec(),
    stacks: tuple[int, ...] = (),
    *,
    profile: bool = False,
    device: str = "auto",
) -> AdaptBench:
    """Measure stage two on random features.

    Args:
        size: a key of :data:`SIZES`.
        stacks: stack sizes to time.
        profile: also measure the operators of a single run's step.
    Raises:
        InputError: the device is not available.
    """
    torch_device = pick_device(device)
    method = resolve_train_precision(method, torch_device)
    times = measure_adapt(SIZES[size], method, stacks, torch_device)
    shares = profile_step(SIZES[size], method, torch_device) if profile else []
    return AdaptBench(SIZES[size], str(torch_device), times, tuple(shares))


def measure_adapt(
    size: Size, method: MethodSpec, stacks: tuple[int, ...], device: torch.device, *, repeats: int = 3
) -> StepTimes:
    """Measure step, epoch and evaluation of a single run, and stacks.

    The matrix-product rate is the larger of two measurements, before and after.
    """
    dtype = training_dtype(method.train.precision)
    task = random_task(size, device, dtype)
    rate = _measure_matmul_rate(device, dtype)
    trainer = Trainer([create_run(task, method, 0)])
    run = trainer.runs[0]
    _exhaust(trainer._evaluate_runs(-1, None, no_measure))
    train = _median_seconds(lambda: trainer._train_epoch(0), device, repeats)
    heads = trainer.eval_heads(0)
    evaluation = _median_seconds(lambda: _evaluate(heads, task, method), device, repeats)
    runs_per_second = {count: count / _measure_stack(task, method, count, device) for count in stacks}
    return StepTimes(
        max(rate, _measure_matmul_rate(device, dtype)),
        step_flops(size, method, run.batch),
        train / run.steps,
        train + evaluation,
        evaluation,
        runs_per_second,
        peak_memory(device),
    )


def _evaluate(heads: Heads, task: AdaptationTask, method: MethodSpec) -> None:
    """Do the work after an epoch except scoring: inference, clusters, pseudo-labels, validators."""
    evaluation = evaluate_target(heads, task.target.features, task.text_features, 1, method.eval)
    (figures,) = gather_to_cpu([validator_tensors(evaluation.probabilities, evaluation.bottleneck)])
    validator_scores(figures, *evaluation.probabilities.shape)


def profile_step(size: Size, method: MethodSpec, device: torch.device, limit: int = 8) -> list[tuple[str, float]]:
    """Return (operator, share of time) of a single run's epoch: the ``limit`` largest, then the rest."""
    from torch.profiler import ProfilerActivity, profile

    task = random_task(size, device, training_dtype(method.train.precision))
    trainer = Trainer([create_run(task, method, 0)])
    _exhaust(trainer._evaluate_runs(-1, None, no_measure))
    trainer._train_epoch(0)
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as profiler:
        trainer._train_epoch(1)
    events = profiler.key_averages()
    seconds = {event.key: event.self_device_time_total if cuda else event.self_cpu_time_total for event in events}
    total = sum(seconds.values())
    largest = sorted(seconds.items(), key=lambda item: -item[1])[:limit]
    shares = [(name.removeprefix("aten::"), time / total) for name, time in largest]
    return [*shares, ("everything else", 1 - sum(share for _, share in shares))]


def _measure_stack(task: AdaptationTask, method: MethodSpec, count: int, device: torch.device) -> float:
    """Return the seconds of a stack of complete runs, extrapolated from the second of two epochs."""
    short = replace(method, train=replace(method.train, epochs=2))
    trainer = Trainer([create_run(task, short, seed) for seed in range(count)])
    epochs = trainer.train()
    for _ in range(2):
        _exhaust(next(epochs)[1])
    seconds = measure_seconds(lambda: _exhaust(next(epochs)[1]), device)
    return seconds * method.train.epochs


def _exhaust(records) -> None:
    for _ in records:
        pass


def _measure_matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    return 2 * n**3 / _median_seconds(lambda: a @ b, device, 5)


def _median_seconds(work: Callable[[], Any], device: torch.device, repeats: int) -> float:
    work()
    return statistics.median(measure_seconds(work, device) for _ in range(repeats))


def measure_seconds(work: Callable[[], Any], device: torch.device) -> float:
    synchronize(device)
    started = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - started


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> int:
    """Return the peak memory in bytes: of the GPU if one is used, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
