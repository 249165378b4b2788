"""Temperature scaling on held-out source rows, and calibration metrics.

Temperature scaling and expected calibration error: Guo et al., arXiv 1706.04599.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from unimos_pipe.methods import fused, zero_shot
from unimos_pipe.methods.base import FLOOR, Method, present_classes
from unimos_pipe.methods.gda import match_mean_confidence
from unimos_pipe.methods.logistic_regression import CrossFit
from unimos_pipe.methods.task import AdaptationTask, UnlabelledFeatures
from unimos_pipe.runs.run_values import CalibrationMetrics

FOLDS = 5
BINS = 15
STEPS = 100
PRECISION = 1e-9  # of a temperature, relative
ENDS = (0.01, 100.0)  # of the temperature


def cross_fit_logits(method: Method, task: AdaptationTask, generator: torch.Generator) -> Tensor:
    """Return (m, K) logits of the source rows, each from a fit without that row (5 random folds).

    Methods with a model predict the fold. Transductive methods get the fold as additional target rows.

    Args:
        generator: CPU generator that draws the folds.

    Raises:
        InputError: fewer than 3 source rows, or fewer than two classes remain for a probe without a fold.
    """
    source, target = task.source, task.target.features
    rows = len(source.labels)
    logits = target.new_empty(rows, len(task.text_features))
    folds = torch.randperm(rows, generator=generator).to(target.device).tensor_split(min(FOLDS, rows))
    for fold in folds:
        in_training = torch.ones(rows, dtype=torch.bool, device=target.device)
        in_training[fold] = False
        training_source = source.subset(in_training)
        held_out = source.features[fold]
        if method.transductive or method.load_model is None:
            extended = UnlabelledFeatures(torch.cat([target, held_out]))
            logits[fold] = method.fit(replace(task, source=training_source, target=extended)).logits[len(target) :]
        else:
            logits[fold] = method.fit(replace(task, source=training_source)).model.logits(held_out)
    return logits


def held_out_logits(name: str, task: AdaptationTask, probe: CrossFit) -> Tensor | None:
    """Return (m, K) logits of the source rows ``probe.rows`` from probes that did not see them.

    They are known without another fit for the source probe and fused; None for other methods.
    """
    present = present_classes(task)
    text = zero_shot.build_classifier(task).logits(task.source.features[probe.rows])[:, present]
    if name == "source-probe":
        logits = probe.logits[:, present]
    elif name == "fused":
        scale = fused.probe_scale(task, probe.model)
        logits = (fused.center(text) + scale * fused.center(probe.logits[:, present])) / 2
    else:
        return None
    full = torch.full_like(probe.logits, -torch.inf)
    full[:, present] = logits
    return full


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the T in [0.01, 100] that minimises the negative log-likelihood of (n,) labels under softmax(logits / T).

    The likelihood is convex in 1 / T; Newton steps find its minimum, and bisections of log T where one would leave the
    interval. Rows whose label has logit -inf do not depend on T and are excluded; 1 if no row remains.

    Args:
        logits: (n, K) logits of held-out rows.
        labels: (n,) int64.
    """
    own = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    finite = own.isfinite()
    logits, own = logits[finite].double(), own[finite].double()
    if not len(own):
        return 1.0
    low, high = (1 / end for end in reversed(ENDS))
    scale = 1.0
    for _ in range(STEPS):
        slope, curvature = _loss_derivatives(logits, own, scale)
        low, high = (low, scale) if slope > 0 else (scale, high)
        newton = scale - slope / curvature if curvature else math.inf
        previous, scale = scale, newton if low < newton < high else math.sqrt(low * high)
        if abs(scale - previous) <= PRECISION * previous:
            break
    return 1 / scale


def _loss_derivatives(logits: Tensor, own: Tensor, scale: float) -> tuple[float, float]:
    """Return the first two derivatives by ``scale`` of the mean of -log softmax(scale logits) at the labels' logits.

    They are the mean of E[l] - l_y, and of the variance of l, with l (n, K) the logits and l_y (n,) the labels' own.
    """
    probabilities = (scale * logits).softmax(-1)
    values = logits.where(probabilities > 0, 0)
    mean = (probabilities * values).sum(-1)
    variance = (probabilities * values.square()).sum(-1) - mean.square()
    return float((mean - own).mean()), float(variance.mean())


def match_temperature(logits: Tensor, confidence: float) -> float:
    """Return the T in [0.01, 100] at which the mean largest probability of softmax(logits / T) is ``confidence``.

    If no T in the interval reaches it, return the nearer end.
    """
    low, high = ENDS
    return min(max(1 / match_mean_confidence(logits, torch.tensor(confidence)), low), high)


def calibration_metrics(probabilities: Tensor, labels: Tensor) -> CalibrationMetrics:
    """Return the calibration metrics of (n, K) probabilities against (n,) labels.

    ECE: 15 bins of equal width over the largest probability, (0, 1/15] and so on; mean over rows of the distance
    between a bin's accuracy and its mean confidence. NLL: probabilities are clamped at 1e-8. Brier: mean over rows of
    the squared distance to the label's one-hot vector.
    """
    probabilities = probabilities.double()
    confidence, predictions = probabilities.max(-1)
    edges = torch.arange(1, BINS, dtype=torch.float64, device=confidence.device) / BINS
    gaps = confidence.new_zeros(BINS)
    gaps.index_add_(0, torch.bucketize(confidence, edges), (predictions == labels).double() - confidence)
    label_probabilities = probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)
    brier = probabilities.square().sum(-1) - 2 * label_probabilities + 1
    return CalibrationMetrics(
        float(gaps.abs().sum() / len(labels)),
        float(-label_probabilities.clamp_min(FLOOR).log().mean()),
        float(brier.mean()),
    )
