"""What a method is: a function from a task to its answers, and a model where it can answer rows it has not seen.

A method sees an :class:`unimos_pipe.methods.task.AdaptationTask`, which holds no target labels. What else shapes it
(settings, a seed) is bound before: ``functools.partial(fit, seed=0)``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from unimos_pipe.methods.task import AdaptationTask

FLOOR = 1e-8  # of probabilities whose logarithm is taken


class Model(Protocol):
    """Answers any rows; its state is all it needs to come back."""

    def logits(self, features: Tensor) -> Tensor:
        """(n, K) logits of (n, D) unit-norm rows; their softmax are the probabilities."""

    def state_dict(self) -> dict[str, Tensor]:
        """Everything the model consists of, as safetensors keeps it."""


@dataclass(frozen=True)
class MethodOutput:
    """What a method makes of a task.

    ``logits`` (n, K) are of the target's rows; a class that is never answered has -inf. ``model`` answers new rows;
    None for methods that only answer the rows they were fitted on.
    """

    logits: Tensor
    model: Model | None = None

    @property
    def probabilities(self) -> Tensor:
        """(n, K), each row summing to one."""
        return self.logits.softmax(-1)

    @property
    def classes(self) -> Tensor:
        """(n,) answered class ids."""
        return self.logits.argmax(-1)


Fit = Callable[[AdaptationTask], MethodOutput]


@dataclass(frozen=True)
class Method:
    """A row of the table of methods: ``restore`` makes a model of its state; None where there is no model."""

    fit: Fit
    load_model: Callable[[Mapping[str, Tensor]], Model] | None = None


@dataclass(frozen=True)
class LinearModel:
    """Logits ``features @ weight + bias``: ``weight`` (D, K), ``bias`` (K,), -inf for a class never answered."""

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """(n, K) logits of (n, D) rows, in the rows' dtype and on their device."""
        weight = self.weight.to(features).contiguous()  # the memory's order may change the last bit
        return features @ weight + self.bias.to(features)

    def state_dict(self) -> dict[str, Tensor]:
        """``weight``, ``bias`` (0 where it is -inf) and ``answered`` (K,) bool, on the CPU; all of it finite."""
        answered = self.bias.isfinite()
        tensors = {"weight": self.weight, "bias": self.bias.where(answered, 0), "answered": answered}
        return {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> "LinearModel":
        """The model whose :meth:`state_dict` this is."""
        return cls(state["weight"], state["bias"].masked_fill(~state["answered"], -torch.inf))

    def predict_target(self, task: AdaptationTask) -> MethodOutput:
        """The answers to a task's target, the model among them."""
        return MethodOutput(self.logits(task.target.features), self)


def present_classes(task: AdaptationTask) -> Tensor:
    """(K,) bool: the classes with source rows."""
    return torch.bincount(task.source.labels, minlength=len(task.text_features)) > 0
