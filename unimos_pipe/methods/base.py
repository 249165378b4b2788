"""Interface of a method: a function from a task to predictions, and a model if it can predict new rows.

A method takes an :class:`unimos_pipe.methods.task.AdaptationTask`, which holds no target labels. Other inputs
(settings, a seed) are bound before: ``functools.partial(fit, seed=0)``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from unimos_pipe.methods.task import AdaptationTask

FLOOR = 1e-8  # of probabilities whose logarithm is taken


class Model(Protocol):
    """A fitted classifier that predicts any rows."""

    def logits(self, features: Tensor) -> Tensor:
        """Return (n, K) logits of (n, D) unit-norm rows; their softmax gives probabilities."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return all tensors of the model, as safetensors stores them."""


@dataclass(frozen=True)
class MethodOutput:
    """Output of a method on a task.

    ``logits`` (n, K) are those of the target rows; a class that is never predicted has -inf. ``model`` predicts new
    rows; None for transductive methods.
    """

    logits: Tensor
    model: Model | None = None

    @property
    def probabilities(self) -> Tensor:
        """(n, K) probabilities; each row sums to one."""
        return self.logits.softmax(-1)

    @property
    def classes(self) -> Tensor:
        """(n,) predicted class ids."""
        return self.logits.argmax(-1)


Fit = Callable[[AdaptationTask], MethodOutput]


@dataclass(frozen=True)
class Method:
    """Entry of the registry: ``load_model`` builds a model from its state; None if the method has no model.

    The model of a ``transductive`` method is a linear head that was fitted to its predictions of the target's rows.
    """

    fit: Fit
    load_model: Callable[[Mapping[str, Tensor]], Model] | None = None
    transductive: bool = False


@dataclass(frozen=True)
class LinearModel:
    """Logits ``features @ weight + bias``: ``weight`` (D, K), ``bias`` (K,), -inf for a class never predicted."""

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Return (n, K) logits of (n, D) rows, in the dtype and on the device of the rows."""
        weight = self.weight.to(features).contiguous()  # the memory's order may change the last bit
        return features @ weight + self.bias.to(features)

    def state_dict(self) -> dict[str, Tensor]:
        """Return ``weight``, ``bias`` (0 instead of -inf) and ``answered`` (K,) bool, finite and on the CPU."""
        answered = self.bias.isfinite()
        tensors = {"weight": self.weight, "bias": self.bias.where(answered, 0), "answered": answered}
        return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "LinearModel":
        """Return the model with this :meth:`state_dict`."""
        return cls(state["weight"], state["bias"].masked_fill(~state["answered"], -torch.inf))

    def predict_target(self, task: AdaptationTask) -> MethodOutput:
        """Return the predictions for a task's target, with the model."""
        return MethodOutput(self.logits(task.target.features), self)


def present_classes(task: AdaptationTask) -> Tensor:
    """Return (K,) bool: the classes with source rows."""
    return torch.bincount(task.source.labels, minlength=len(task.text_features)) > 0
