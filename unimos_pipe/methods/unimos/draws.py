"""Everything random in a run, from its seed alone: starting weights, batches, dropout and restarts.

Each purpose has its own generator, so a run draws the same whichever other runs it is stacked with.
"""

import hashlib

import torch
from torch import Tensor

from unimos_pipe.base.config import HeadSpec
from unimos_pipe.methods.unimos.heads import WEIGHT_GENERATOR, initial_parameters, reset_tensor


def _generator(seed: int, purpose: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def holdout_order(seed: int, rows: int) -> Tensor:
    """(rows,) source rows in the order in which they are held out, the run's own."""
    return torch.randperm(rows, generator=_generator(seed, "holdout"))


class _ShuffledPass:
    """Whole batches of a shuffled pass, redrawn when used up and going on across epochs (METHOD.md section 4)."""

    def __init__(self, rows: int, batch: int, generator: torch.Generator):
        self.rows, self.batch, self.generator = rows, batch, generator
        self.left = torch.empty(0, batch, dtype=torch.int64)

    def take(self, steps: int) -> Tensor:
        """(steps, batch) row numbers."""
        while len(self.left) < steps:
            whole = self.rows // self.batch * self.batch
            order = torch.randperm(self.rows, generator=self.generator)[:whole]
            self.left = torch.cat([self.left, order.view(-1, self.batch)])
        taken, self.left = self.left[:steps], self.left[steps:]
        return taken


class RunDraws:
    """The random choices of one run, in the order in which training asks for them."""

    def __init__(self, seed: int, source_rows: int, target_rows: int, batch: int):
        self._init, self._dropout, self._reset = (_generator(seed, name) for name in ("init", "dropout", "reset"))
        self._source = _ShuffledPass(source_rows, batch, _generator(seed, "source"))
        self._target = _ShuffledPass(target_rows, batch, _generator(seed, "target"))

    def parameters(self, dim: int, classes: int, spec: HeadSpec) -> dict[str, Tensor]:
        """The starting weights."""
        return initial_parameters(dim, classes, spec, self._init)

    def batches(self, steps: int) -> tuple[Tensor, Tensor]:
        """(steps, B) source rows and (steps, B) target rows of the next steps."""
        return self._source.take(steps), self._target.take(steps)

    def kept(self, steps: int, rows: int, width: int, dropout: float) -> Tensor:
        """(steps, rows, width) bool: which hidden units dropout keeps, each with probability 1 - dropout."""
        count = steps * rows * width
        words = torch.empty(-(-count // 8), dtype=torch.int64).random_(-(2**63), None, generator=self._dropout)
        return (words.view(torch.uint8)[:count] >= round(256 * dropout)).view(steps, rows, width)

    def resets(self, params: dict[str, Tensor], probability: float) -> dict[str, Tensor]:
        """Weight-generator tensors that restart at an epoch's beginning, by name. ``params`` gives their shapes."""
        chance = torch.rand(len(WEIGHT_GENERATOR), generator=self._reset).tolist()
        return {
            name: reset_tensor(params[name], self._reset)
            for name, drawn in zip(WEIGHT_GENERATOR, chance, strict=True)
            if drawn < probability
        }

    def state(self) -> dict[str, Tensor]:
        """Where every generator stands, and the rows already drawn but not used."""
        state = {name: generator.get_state() for name, generator in self._generators().items()}
        return state | {"source_left": self._source.left, "target_left": self._target.left}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what :meth:`state` gave."""
        for name, generator in self._generators().items():
            generator.set_state(state[name])
        self._source.left, self._target.left = state["source_left"], state["target_left"]

    def _generators(self) -> dict[str, torch.Generator]:
        batches = {"source": self._source.generator, "target": self._target.generator}
        return {"init": self._init, "dropout": self._dropout, "reset": self._reset, **batches}
