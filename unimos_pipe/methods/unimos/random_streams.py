"""Random streams of a run, all derived from its seed: initial weights, batches, dropout and resets.

Each purpose has its own generator, so a run's draws do not depend on the runs it is stacked with.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

from unimos_pipe.base.method_config import HeadSpec
from unimos_pipe.methods.unimos.heads import WEIGHT_GENERATOR, initial_parameters, reset_tensor


def _generator(seed: int, purpose: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def dropout_scale(dropout: float) -> float:
    """Return the factor of the hidden units that dropout keeps: one over their share."""
    return 1 / (1 - _dropped_bytes(dropout) / 256)


def _dropped_bytes(dropout: float) -> int:
    """Return how many of the 256 values of a random byte drop a unit."""
    return round(256 * dropout)


def holdout_order(seed: int, rows: int) -> Tensor:
    """Return the (rows,) source rows in the order in which the run holds them out."""
    return torch.randperm(rows, generator=_generator(seed, "holdout"))


class _ShuffledPass:
    """Whole batches of a shuffled pass, redrawn when used up and continued across epochs (METHOD.md section 4)."""

    def __init__(self, rows: int, batch: int, generator: torch.Generator):
        self.rows, self.batch, self.generator = rows, batch, generator
        self.unused = torch.empty(0, batch, dtype=torch.int64)

    def next_batches(self, steps: int) -> Tensor:
        """Return (steps, batch) row numbers."""
        while len(self.unused) < steps:
            whole = self.rows // self.batch * self.batch
            order = torch.randperm(self.rows, generator=self.generator)[:whole]
            self.unused = torch.cat([self.unused, order.view(-1, self.batch)])
        batches, self.unused = self.unused[:steps], self.unused[steps:]
        return batches

    def state_dict(self) -> dict[str, Tensor]:
        """Return the unused batches."""
        return {"left": self.unused}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the state from :meth:`state_dict`."""
        self.unused = state["left"]


class _EvenPass:
    """Batches with equally many rows of each domain, from one shuffled pass per domain.

    If the batch cannot be divided evenly, the domains take turns with the remaining rows.
    """

    def __init__(self, origins: Tensor, batch: int, generator: torch.Generator):
        self.rows = [(origins == domain).nonzero().flatten() for domain in origins.unique()]
        self.batch, self.generator, self.turn = batch, generator, 0
        self.unused = [rows[:0] for rows in self.rows]

    def next_batches(self, steps: int) -> Tensor:
        """Return (steps, batch) row numbers; within a step, rows are ordered by domain."""
        rows_per_domain, remainder = divmod(self.batch, len(self.rows))
        batches = []
        for _ in range(steps):
            extra = [(domain - self.turn) % len(self.rows) < remainder for domain in range(len(self.rows))]
            self.turn = (self.turn + remainder) % len(self.rows)
            rows = [self._next_rows(domain, rows_per_domain + more) for domain, more in enumerate(extra)]
            batches.append(torch.cat(rows))
        return torch.stack(batches)

    def _next_rows(self, domain: int, count: int) -> Tensor:
        while len(self.unused[domain]) < count:
            rows = self.rows[domain]
            order = torch.randperm(len(rows), generator=self.generator)
            self.unused[domain] = torch.cat([self.unused[domain], rows[order]])
        numbers, self.unused[domain] = self.unused[domain][:count], self.unused[domain][count:]
        return numbers

    def state_dict(self) -> dict[str, Tensor]:
        """Return the unused rows by domain, and the domain that is next in turn."""
        return {"turn": torch.tensor(self.turn), **{f"left.{domain}": rows for domain, rows in enumerate(self.unused)}}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the state from :meth:`state_dict`."""
        self.turn = int(state["turn"])
        self.unused = [state[f"left.{domain}"] for domain in range(len(self.rows))]


class RandomStreams:
    """Random choices of one run, in the order of training.

    ``origins`` (source_rows,) is the domain of each source row, if there are several.
    """

    def __init__(self, seed: int, source_rows: int, target_rows: int, batch: int, origins: Tensor | None = None):
        self._init, self._dropout, self._reset = (_generator(seed, name) for name in ("init", "dropout", "reset"))
        generator = _generator(seed, "source")
        self._source = (
            _ShuffledPass(source_rows, batch, generator)
            if origins is None
            else _EvenPass(origins.cpu(), batch, generator)
        )
        self._target = _ShuffledPass(target_rows, batch, _generator(seed, "target"))

    def draw_parameters(self, dim: int, classes: int, spec: HeadSpec) -> dict[str, Tensor]:
        """Return the initial weights."""
        return initial_parameters(dim, classes, spec, self._init)

    def next_batches(self, steps: int) -> tuple[Tensor, Tensor]:
        """Return (steps, B) source rows and (steps, B) target rows of the next steps."""
        return self._source.next_batches(steps), self._target.next_batches(steps)

    def draw_dropout_mask(self, steps: int, rows: int, width: int, dropout: float) -> Tensor:
        """Return (steps, rows, width) bool: hidden units that dropout keeps, each with probability 1 - dropout."""
        count = steps * rows * width
        words = torch.empty(-(-count // 8), dtype=torch.int64).random_(-(2**63), None, generator=self._dropout)
        mask = words.numpy().view(np.uint8)[:count] >= _dropped_bytes(dropout)  # torch takes 20 times as long for bytes
        return torch.from_numpy(mask).view(steps, rows, width)

    def draw_resets(self, params: dict[str, Tensor], probability: float) -> dict[str, Tensor]:
        """Return the weight-generator tensors to reset before an epoch, by name. ``params`` gives their shapes."""
        chance = torch.rand(len(WEIGHT_GENERATOR), generator=self._reset).tolist()
        return {
            name: reset_tensor(params[name], self._reset)
            for name, drawn in zip(WEIGHT_GENERATOR, chance, strict=True)
            if drawn < probability
        }

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state of every generator, and the rows drawn but not used."""
        state = {name: generator.get_state() for name, generator in self._generators().items()}
        for side, rows in (("source", self._source), ("target", self._target)):
            state |= {f"{side}_{name}": tensor for name, tensor in rows.state_dict().items()}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the state from :meth:`state_dict`."""
        for name, generator in self._generators().items():
            generator.set_state(state[name])
        for side, rows in (("source", self._source), ("target", self._target)):
            side_state = {name.removeprefix(f"{side}_"): tensor for name, tensor in state.items()}
            rows.load_state_dict({name: side_state[name] for name in rows.state_dict()})

    def _generators(self) -> dict[str, torch.Generator]:
        batches = {"source": self._source.generator, "target": self._target.generator}
        return {"init": self._init, "dropout": self._dropout, "reset": self._reset, **batches}
