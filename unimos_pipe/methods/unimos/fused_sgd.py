"""Fused SGD with momentum: weights are updated during the backward pass (METHOD.md section 3).

A linear layer's momentum takes its gradient in one matrix product, so the gradient is never stored: at these sizes an
optimiser's memory traffic costs as much as the arithmetic. For the same reason a CPU processes few runs at a time,
whose weights stay in its cache from the product to the update; a GPU processes all runs at once.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unimos_pipe.methods.unimos.heads import Heads

CPU_BLOCK_WEIGHTS = 1 << 20  # weights that a CPU works on together: 4 MB, and as much of momentum


@dataclass(frozen=True)
class FusedSGD:
    """One SGD step of all runs. A weight is updated in place as soon as its gradient is passed in."""

    heads: Heads
    neg_lr: dict[int, Tensor]  # minus the learning rates, (R, 1, ...) by number of dimensions

    @classmethod
    def create(cls, heads: Heads, lr: Tensor) -> "FusedSGD":
        """Return a step with these (R,) learning rates."""
        neg_lr = -lr
        return cls(heads, {2: neg_lr.view(-1, 1), 3: neg_lr.view(-1, 1, 1)})

    def apply_product(self, name: str, grad: Tensor, inputs: Tensor) -> None:
        """Update a linear layer's weight with the gradient ``grad^T inputs``, of (R, n, out) and (R, n, in)."""
        weight, copy = self.heads.params[name], self.heads.copies.get(name)
        tensors = weight, self.heads.momentum[name], grad, inputs, self.neg_lr[3], *([] if copy is None else [copy])
        runs_at_once = max(1, CPU_BLOCK_WEIGHTS // math.prod(weight.shape[1:]))
        if weight.device.type == "cuda" or runs_at_once >= len(weight):
            self._apply_product(*tensors)
            return
        for runs in zip(*(tensor.split(runs_at_once) for tensor in tensors), strict=True):
            self._apply_product(*runs)

    def _apply_product(
        self, weight: Tensor, buffer: Tensor, grad: Tensor, inputs: Tensor, neg_lr: Tensor, *copy: Tensor
    ) -> None:
        if grad.shape[1] == 1:  # an outer product: addcmul takes half the time of a matrix product
            buffer.mul_(self.heads.beta).addcmul_(grad.mT, inputs)
        elif grad.dtype == buffer.dtype:
            buffer.baddbmm_(grad.mT, inputs, beta=self.heads.beta)
        else:  # a product in lower precision cannot accumulate into the buffer itself
            torch.add(torch.bmm(grad.mT, inputs), buffer, alpha=self.heads.beta, out=buffer)
        weight.addcmul_(buffer, neg_lr)
        if copy:
            copy[0].copy_(weight)

    def apply_gradient(self, name: str, grad: Tensor) -> None:
        """Update a tensor without a low-precision copy with its (R, ...) gradient."""
        buffer = self.heads.momentum[name]
        torch.add(grad, buffer, alpha=self.heads.beta, out=buffer)
        self.heads.params[name].addcmul_(buffer, self.neg_lr[grad.ndim])
