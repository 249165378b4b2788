"""Inputs of R runs' next steps, sampled on the CPU and copied to the device in blocks of steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from unimos_pipe.methods.unimos.schedules import learning_rate
from unimos_pipe.methods.unimos.stack_key import StackKey
from unimos_pipe.methods.unimos.training_run import TrainingRun

BLOCK = 16  # steps


class StepInputs(NamedTuple):
    """Inputs of several steps; of one step without the first dimension."""

    rows: Tensor  # (steps, R, 2B) rows of the table of features: source, then target
    labels: Tensor  # (steps, R, B) rows of the source labels
    pseudo: Tensor  # (steps, R, B) rows of the pseudo-labels
    dropout_mask: Tensor  # (steps, R, 4B, discriminator_hidden) bool: hidden units that dropout keeps
    lr: Tensor  # (steps, R) learning rates

    def step(self, position: int) -> "StepInputs":
        """Return the inputs of one step."""
        return StepInputs(*(tensor[position] for tensor in self))

    def step_at(self, position: Tensor) -> "StepInputs":
        """Return the inputs of one step, whose (1,) position is on the device."""
        return StepInputs(*(tensor.index_select(0, position)[0] for tensor in self))

    def runs(self, stop: int) -> "StepInputs":
        """Return a step's inputs of the first ``stop`` runs."""
        return StepInputs(*(tensor[:stop] for tensor in self))


@dataclass(frozen=True)
class TableOffsets:
    """Offset of each run's rows in the tables that a stack shares."""

    source: Sequence[int]  # in the table of features
    target: Sequence[int]  # likewise
    labels: Sequence[int]  # in the source labels
    pseudo: Sequence[int]  # in the pseudo-labels


class StepInputSampler:
    """Samples the blocks of a stack, whose runs are ordered by steps per epoch, longest first."""

    def __init__(
        self, runs: Sequence[TrainingRun], stack_key: StackKey, offsets: TableOffsets, dtype: torch.dtype, device
    ):
        self.runs, self.stack_key, self.offsets = runs, stack_key, offsets
        self.dtype, self.device = dtype, device
        self.block = self._empty(device)

    def sample(self, epoch: int, start: int) -> StepInputs:
        """Sample the block that begins with step ``start`` of an epoch, on the device, in place of the previous one.

        A run's samples stop at its last step; later slots are never read. Page-locked memory lets the copy to a GPU
        queue behind the steps launched earlier.
        """
        cuda = self.device.type == "cuda"
        drawn = self._empty("cpu", page_locked=True) if cuda else self.block
        for index, run in enumerate(self.runs):
            steps = min(BLOCK, run.steps - start)
            if steps <= 0:
                break
            self._fill(StepInputs(*(tensor[:steps, index] for tensor in drawn)), index, epoch * run.steps + start)
        if cuda:
            for destination, tensor in zip(self.block, drawn, strict=True):
                destination.copy_(tensor, non_blocking=True)
        return self.block

    def _fill(self, inputs: StepInputs, index: int, steps_before: int) -> None:
        """Sample a run's steps. ``steps_before`` is their offset in the run, for the learning rate."""
        run, starts, batch = self.runs[index], self.offsets, self.stack_key.batch
        steps = len(inputs.rows)
        source, target = run.random_streams.next_batches(steps)
        inputs.rows[:, :batch] = source + starts.source[index]
        inputs.rows[:, batch:] = target + starts.target[index]
        inputs.labels[:] = source + starts.labels[index]
        inputs.pseudo[:] = target + starts.pseudo[index]
        heads = self.stack_key.heads
        inputs.dropout_mask[:] = run.random_streams.draw_dropout_mask(
            steps, 4 * batch, heads.discriminator_hidden, heads.discriminator_dropout
        )
        rates = [learning_rate(steps_before + step, run.method.train) for step in range(steps)]
        inputs.lr[:] = torch.tensor(rates, dtype=torch.float64)

    def _empty(self, device: torch.device | str, *, page_locked: bool = False) -> StepInputs:
        count, batch, width = len(self.runs), self.stack_key.batch, self.stack_key.heads.discriminator_hidden
        shapes = {
            "rows": ((2 * batch,), torch.int64),
            "labels": ((batch,), torch.int64),
            "pseudo": ((batch,), torch.int64),
            "dropout_mask": ((4 * batch, width), torch.bool),
            "lr": ((), self.dtype),
        }
        return StepInputs(
            **{
                name: torch.zeros(BLOCK, count, *shape, dtype=dtype, device=device, pin_memory=page_locked)
                for name, (shape, dtype) in shapes.items()
            }
        )
