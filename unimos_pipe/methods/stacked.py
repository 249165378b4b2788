"""Stacked fusion: zero-shot and source probe with the weights that fit the source's labels best.

l = a z + b p, with z = 100 x mu^T the zero-shot logits and p the source probe's decision values. a, b >= 0 minimise
the mean of -log softmax(a z + b p')[y] over n source rows, with p' the probe's values by 5-fold cross-fitting and
labels smoothed by 1 / (n + 1), which bounds a and b where p' separates the classes. The loss is convex in (a, b);
projected Newton steps find its minimum. Where no class has two source rows, b = 0. A class without source rows is
never answered. Stacking: Wolpert (Neural Networks 1992).

Its probabilities are calibrated on the source's domain. Where text fails on the source but holds on the target it
loses to zero-shot.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from unimos_pipe.methods import zero_shot
from unimos_pipe.methods.base import LinearModel, MethodOutput, present_classes
from unimos_pipe.methods.logistic_regression import CrossFit, cross_fit, row_weights
from unimos_pipe.methods.task import AdaptationTask

STEPS = 50
START = (1.0, 0.1)
HALVINGS = 30
RIDGE = 1e-10  # of the 2 x 2 curvature, which is singular where both logits say the same
PRECISION = 1e-10  # of the loss


@dataclass(frozen=True)
class Stacked:
    """Weights of zero-shot and probe, the model of both, and the cross-fitted probe behind it."""

    text_weight: float
    probe_weight: float
    model: LinearModel
    probe: CrossFit


@torch.no_grad()
def fit_stacked(task: AdaptationTask, probe: CrossFit | None = None) -> Stacked:
    """Fit probe and weights to the source of a task; its target is not read.

    Args:
        probe: :func:`unimos_pipe.methods.logistic_regression.cross_fit` of the source, where it is at hand.
    Raises:
        InputError: the source has rows of fewer than two classes.
    """
    source, text, present = task.source, zero_shot.build_classifier(task), present_classes(task)
    probe = probe or cross_fit(source, len(present))
    rows = probe.rows if len(probe.rows) else torch.arange(len(source.labels), device=source.labels.device)
    logits = text.logits(source.features[rows])[:, present].unsqueeze(-1)
    if len(probe.rows):
        logits = torch.cat([logits, probe.logits[:, present].unsqueeze(-1)], -1)
    labels = (present.cumsum(0) - 1)[source.labels[rows]]
    weights = stacking_weights(logits.double(), labels, row_weights(source)[rows].double())
    a, b = (*weights, 0.0)[:2]
    full = probe.model
    bias = b * full.bias if b else torch.zeros_like(full.bias).masked_fill(~present, -torch.inf)
    return Stacked(a, b, LinearModel(a * text.weight + b * full.weight, bias), probe)


def stacking_weights(logits: Tensor, labels: Tensor, row_weights: Tensor) -> tuple[float, ...]:
    """The factors >= 0 of several logits whose sum has the least weighted cross-entropy to smoothed labels.

    Args:
        logits: (n, K, m) of m methods.
        labels: (n,) int64.
        row_weights: (n,).
    """
    shares = row_weights / row_weights.sum()
    targets = smooth_labels(labels, logits.shape[1]).to(logits)
    wanted = (targets.unsqueeze(1) @ logits).squeeze(1)

    def loss(factors: Tensor) -> float:
        return -float(shares @ (targets * (logits @ factors).log_softmax(-1)).sum(-1))

    factors = logits.new_tensor(START[: logits.shape[-1]])
    lowest = loss(factors)
    for _ in range(STEPS):
        answers = (logits @ factors).softmax(-1)
        mean = (answers.unsqueeze(1) @ logits).squeeze(1)
        gradient = shares @ (mean - wanted)
        spread = torch.einsum("n,nk,nki,nkj->ij", shares, answers, logits, logits)
        curvature = spread - torch.einsum("n,ni,nj->ij", shares, mean, mean)
        curvature.diagonal().add_(RIDGE)
        free = (factors > 0) | (gradient < 0)
        step = torch.zeros_like(factors)
        step[free] = -torch.linalg.solve(curvature[free][:, free], gradient[free])
        for halving in range(HALVINGS):
            tried = (factors + step / 2**halving).clamp_min(0)
            new_loss = loss(tried)
            if new_loss < lowest:
                break
        if new_loss > lowest - PRECISION:
            break
        factors, lowest = tried, new_loss
    return tuple(factors.tolist())


def smooth_labels(labels: Tensor, classes: int) -> Tensor:
    """(n, K) one-hot rows of (n,) labels, of which 1 / (n + 1) is spread evenly over the classes."""
    share = 1 / (len(labels) + 1)
    return (1 - share) * F.one_hot(labels, classes) + share / classes


@torch.no_grad()
def fit(task: AdaptationTask) -> MethodOutput:
    """Fit stacked fusion and predict the target."""
    return fit_stacked(task).model.predict_target(task)
