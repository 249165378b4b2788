"""Gaussian discriminant analysis of the source beside zero-shot (Wang et al., arXiv 2402.04087).

mu_k = class means of the source rows xs, S = covariance of xs - mu_ys (divisor n - 1),
P = D ((n - 1) S + tr(S) I)^-1, W = P mu^T, b_k = -1/2 mu_k^T P mu_k (equal priors), l = z + a (x W + b).

The paper chooses a with labels. Here it is the a on [1e-4, 1e4], found by bisection, with which the mean over target
rows of max softmax(a g) equals that of max softmax(z), g = c(x W + b), c = minus the mean over classes; where an end
of the interval does not reach it, that end. Where no class has rows that differ (one row a class), S is that of the
rows minus their common mean. A class without source rows is never answered.
"""

import math

import torch
from torch import Tensor

from unimos_pipe.methods import zero_shot
from unimos_pipe.methods.base import LinearModel, MethodOutput, present_classes
from unimos_pipe.methods.task import AdaptationTask, LabelledFeatures

ENDS = (1e-4, 1e4)
HALVINGS = 50
TINY = 1e-9  # of a sum of squares of unit rows: there is no spread to speak of


def fit_discriminant(source: LabelledFeatures, classes: int) -> LinearModel:
    """Return W (D, K) and b (K,) of the source's Gaussians; b is -inf for a class without rows."""
    rows, labels = source.features, source.labels
    counts = torch.bincount(labels, minlength=classes)
    sums = rows.new_zeros(classes, rows.shape[1]).index_add_(0, labels, rows)
    means = sums / counts.clamp_min(1).unsqueeze(-1)
    deviations = rows - means[labels]
    if deviations.square().sum() <= TINY:
        deviations = rows - rows.mean(0)
    scatter = deviations.mT @ deviations  # (n - 1) S: deviations from class means have mean zero
    ridge = (scatter.trace() / (len(rows) - 1)).clamp_min(TINY)
    eye = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    weight = rows.shape[1] * torch.linalg.solve(scatter + ridge * eye, means.mT)
    bias = -(means.mT * weight).sum(0) / 2
    return LinearModel(weight, bias.masked_fill(counts == 0, -torch.inf))


def match_mean_confidence(logits: Tensor, confidence: Tensor) -> float:
    """Return the a in ``ENDS`` for which the mean confidence of softmax(a ``logits``) equals ``confidence``.

    The mean of the largest probabilities increases with a, so bisection (of log a) finds it, or the nearer end.

    Args:
        logits: (n, K).
        confidence: scalar tensor, the mean of the rows' largest probabilities to match.
    """
    low, high = (math.log(end) for end in ENDS)
    for _ in range(HALVINGS):
        log_scale = (low + high) / 2
        mean_confidence = (math.exp(log_scale) * logits).softmax(-1).amax(-1).mean()
        low, high = (log_scale, high) if mean_confidence < confidence else (low, log_scale)
    return math.exp((low + high) / 2)


def fit(task: AdaptationTask) -> MethodOutput:
    """Fit the discriminant and add it to zero-shot."""
    zero, present = zero_shot.build_classifier(task), present_classes(task)
    gaussian = fit_discriminant(task.source, len(task.text_features))
    rows = task.target.features
    confidence = zero.logits(rows).softmax(-1).amax(-1).mean()
    g = gaussian.logits(rows)[:, present]
    a = match_mean_confidence(g - g.mean(-1, keepdim=True), confidence)
    return LinearModel(zero.weight + a * gaussian.weight, zero.bias + a * gaussian.bias).predict_target(task)
