"""Properties that the runs of a stack share, and coefficients in which they may differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unimos_pipe.base.method_config import HeadSpec, MethodSpec
from unimos_pipe.methods.unimos.loss_terms import LOSSES


@dataclass(frozen=True)
class StackKey:
    """Shapes and structure of a training step. Only runs with equal keys can train as one stack."""

    heads: HeadSpec
    weight_per: str  # one w per batch, or per row
    train_ensemble: str  # raw or debiased LAC logits
    momentum: float
    precision: str
    epochs: int
    batch: int  # rows per domain and step
    classes: int
    dim: int

    @classmethod
    def create(cls, method: MethodSpec, batch: int, classes: int, dim: int) -> "StackKey":
        """Return the key of a run with this method, B rows per domain, K classes and D dimensions."""
        loss, train = method.loss, method.train
        shared = loss.weight_per, loss.train_ensemble, train.momentum, train.precision, train.epochs
        return cls(method.heads, *shared, batch, classes, dim)


@dataclass(frozen=True)
class Coefficients:
    """Coefficients in which the runs of a stack may differ, (R,) unless noted."""

    losses: tuple[str, ...]  # names of those that some run weighs
    weights: Tensor  # (losses, R)
    learned_weight: Tensor  # bool; else w = 0.5
    debias_tau: Tensor
    prior_momentum: Tensor

    @classmethod
    def create(cls, methods: Sequence[MethodSpec], dtype: torch.dtype, device: torch.device) -> "Coefficients":
        """Return the coefficients of R runs."""

        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        weights = {name: [float(loss.weight(method.loss)) for method in methods] for name, loss in LOSSES.items()}
        weights = {name: values for name, values in weights.items() if any(values)}
        return cls(
            tuple(weights),
            column(list(weights.values())),
            column([method.loss.ensemble_weight == "learned" for method in methods]).bool(),
            column([method.eval.debias_tau for method in methods]),
            column([method.train.prior_momentum for method in methods]),
        )

    def runs(self, stop: int) -> "Coefficients":
        """Return the coefficients of the first ``stop`` runs."""
        per_run = self.weights, self.learned_weight, self.debias_tau, self.prior_momentum
        return Coefficients(self.losses, *(values[..., :stop] for values in per_run))
