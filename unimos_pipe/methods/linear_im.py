"""A linear head trained by source cross-entropy and information maximisation on the target.

Logits 20 x W^T + b with W (K, D) and b, both initialised to zero; b is neither scaled nor penalised. The objective over
both domains: source cross-entropy + 1.0 (mean entropy of the target's predictions - entropy of their mean; log(p +
1e-6)) + 1e-4 ||W||^2, minimised by L-BFGS with a strong-Wolfe line search, at most 300 iterations, history 10.
Information maximisation is from Shi and Sha (ICML 2012), in the form of SHOT (Liang et al., arXiv 2002.08546).

It favours balanced predictions. It works well where image features are strong and the target has all classes, and it
collapses where most classes are absent from the target (partial-set adaptation).

300 iterations do not converge, and rounding decides where they end: in float32, accuracies moved by up to 4 points. The
optimisation uses float64 whatever the features' dtype.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from unimos_pipe.methods.base import LinearModel, MethodOutput
from unimos_pipe.methods.lbfgs import minimise
from unimos_pipe.methods.task import AdaptationTask

SCALE = 20.0
IM_WEIGHT = 1.0
PENALTY = 1e-4
EPSILON = 1e-6
ITERATIONS = 300
TOLERANCE = 1e-7  # of the largest entry of the gradient
LEAST_CHANGE = 1e-9  # of parameters and objective


def entropy(probabilities: Tensor) -> Tensor:
    """(...) entropy in nats of probabilities (..., K), as - sum p log(p + 1e-6)."""
    return -(probabilities * (probabilities + EPSILON).log()).sum(-1)


def objective(task: AdaptationTask, weight: Tensor, bias: Tensor) -> Tensor:
    """Objective of ``weight`` (K, D) and ``bias`` (K,)."""
    head = SCALE * weight.mT
    losses = F.cross_entropy(task.source.features @ head + bias, task.source.labels, reduction="none")
    source = losses.mean() if task.source.weights is None else losses @ task.source.weights.to(losses) / len(losses)
    probabilities = (task.target.features @ head + bias).softmax(-1)
    information = entropy(probabilities).mean() - entropy(probabilities.mean(0))
    return source + IM_WEIGHT * information + PENALTY * weight.square().sum()


def fit(task: AdaptationTask) -> MethodOutput:
    """Train the head and predict the target."""
    precise = to_float64(task)

    classes, dim = precise.text_features.shape

    @torch.enable_grad()
    def evaluate(parameters: Tensor) -> tuple[Tensor, Tensor]:
        flat = parameters.detach().requires_grad_()
        loss = objective(precise, flat[:-classes].view(classes, dim), flat[-classes:])
        return loss.detach(), torch.autograd.grad(loss, flat)[0]

    start = precise.text_features.new_zeros(classes * dim + classes)
    flat = minimise(evaluate, start, iterations=ITERATIONS, tolerance=TOLERANCE, least_change=LEAST_CHANGE)
    slopes, bias = SCALE * flat[:-classes].view(classes, dim).mT, flat[-classes:]
    return LinearModel(slopes.to(task.text_features), bias.to(task.text_features)).predict_target(task)


def to_float64(task: AdaptationTask) -> AdaptationTask:
    """Return the task in float64, if the device has it."""
    if task.text_features.device.type == "mps":
        return task
    return replace(
        task,
        source=replace(task.source, features=task.source.features.double()),
        target=replace(task.target, features=task.target.features.double()),
        text_features=task.text_features.double(),
    )
