"""Grouping of runs into stacks, within memory and with every process busy."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from unimos_pipe.base.fork_pool import max_processes
from unimos_pipe.methods.unimos.stack_key import StackKey
from unimos_pipe.methods.unimos.training_run import TrainingRun

MAX_STACK_SIZE = 36
SMALL_STEP = 2**13  # rows times dimensions of a run's step: threads would wait for each other more than compute
MIN_STACK_SIZE = 3  # if another process is free; smaller stacks gain little


@dataclass(frozen=True)
class StackPlan:
    """Stacks of a plan's runs, and the number of processes that train them.

    A single stack has one process with all threads. The plan does not depend on which runs are finished: the last
    digits of a stack's results depend on its number of threads.
    """

    stacks: list[list[int]]  # positions of each stack's runs
    processes: int

    def concurrent_stacks(self, count: int) -> int:
        """Return how many of ``count`` stacks train at the same time."""
        return min(self.processes, count)


def plan_stacks(
    runs: Sequence[TrainingRun],
    stack_size: int | None,
    device: torch.device,
    *,
    processes: int | None = None,
    sharing_memory: int | None = None,
) -> StackPlan:
    """Group runs with equal stack keys into stacks of at most ``stack_size``; None: chosen by memory and speed.

    Args:
        processes: that train at the same time; None: those of this machine.
        sharing_memory: those of them that share one device's memory; None: all.
    """
    processes = processes or max_processes(device)
    sharing_memory = sharing_memory or processes
    groups: dict[StackKey, list[int]] = {}
    for index, run in enumerate(runs):
        groups.setdefault(run.stack_key, []).append(index)
    stacks = []
    for members in groups.values():
        if stack_size:
            sizes = [stack_size] * math.ceil(len(members) / stack_size)
        else:
            sizes = split_evenly(len(members), max_stack_size(runs[members[0]], sharing_memory), processes)
        remaining = iter(members)
        stacks += [list(itertools.islice(remaining, size)) for size in sizes]
    return StackPlan(stacks, processes if len(stacks) > 1 else 1)


def split_evenly(runs: int, max_size: int, processes: int) -> list[int]:
    """Return stack sizes for ``runs`` runs that keep all processes busy to the end, each at most ``max_size``."""
    count = max(math.ceil(runs / max_size), min(processes, runs // MIN_STACK_SIZE))
    if count > processes:
        count = min(runs, math.ceil(count / processes) * processes)
    return [runs // count + (index < runs % count) for index in range(count)]


def max_stack_size(run: TrainingRun, processes: int) -> int:
    """Return the maximum stack size for runs like this one.

    Larger stacks are not faster, and all concurrent stacks together use at most a quarter of free memory.
    """
    classes, dim = run.task.text_features.shape
    heads = run.method.heads
    weights = dim * (2 * dim + heads.bottleneck_dim + heads.weight_hidden + heads.discriminator_hidden)
    activations = run.batch * (20 * dim + 30 * classes + 20 * heads.discriminator_hidden)
    masks = 16 * 4 * run.batch * heads.discriminator_hidden
    item_bytes = run.task.text_features.element_size()
    rows, device = len(run.task.target.features), run.task.text_features.device
    per_run = item_bytes * (2 * weights + activations) + masks + 16 * rows
    if device.type == "cuda":  # a stack is evaluated as a whole
        per_run += item_bytes * rows * (classes + heads.bottleneck_dim)
    free_bytes = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else measure_free_memory()
    return max(1, min(MAX_STACK_SIZE, int(free_bytes // 4 // per_run // processes)))


def count_epochs(runs: Iterable[TrainingRun]) -> int:
    """Return the total number of epochs of several runs."""
    return sum(run.method.train.epochs for run in runs)


def measure_free_memory() -> int:
    """Return the bytes of available main memory; 4 GiB if the system does not report it."""
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 4 << 30
