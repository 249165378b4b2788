"""Probabilities that mean something: one temperature from held-out source answers, and how well they fit.

Temperature scaling and expected calibration error: Guo et al., arXiv 1706.04599.
"""

import math
from dataclasses import dataclass, replace

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from unimos_pipe.methods.base import FLOOR, Method
from unimos_pipe.methods.task import AdaptationTask, UnlabelledFeatures

FOLDS = 5
BINS = 15
ENDS = (0.01, 100.0)  # of the temperature


@dataclass(frozen=True)
class Calibration:
    """A run's temperature, the held-out source rows it was fitted to, and the seconds that their answers took."""

    temperature: float
    rows: int
    seconds: float


@dataclass(frozen=True)
class CalibrationMetrics:
    """Of probabilities against labels: ``ece`` as a fraction, ``nll`` in nats, ``brier`` from 0 to 2."""

    ece: float
    nll: float
    brier: float


def cross_fit_logits(method: Method, task: AdaptationTask, generator: torch.Generator) -> Tensor:
    """(m, K) logits of the source's rows, each from a fit that did not see it (5 folds at random).

    Methods that answer new rows are asked for the fold; others get it among the target's rows, and their answers to it
    are read off. It costs five fits.

    Args:
        generator: on the CPU; draws the folds.

    Raises:
        InputError: fewer than 3 source rows, or a fold without which fewer than two classes are left to a probe.
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
        if method.load_model is None:
            extended = UnlabelledFeatures(torch.cat([target, held_out]))
            logits[fold] = method.fit(replace(task, source=training_source, target=extended)).logits[len(target) :]
        else:
            logits[fold] = method.fit(replace(task, source=training_source)).model.logits(held_out)
    return logits


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T in [0.01, 100] with the least negative log-likelihood of (n,) labels under softmax(logits / T).

    Rows whose label is never answered (logit -inf) say nothing about T and stay out; 1 where no row is left.

    Args:
        logits: (n, K) of rows that the fit did not see.
        labels: (n,) int64.
    """
    finite = logits.gather(1, labels.unsqueeze(1)).squeeze(1).isfinite()
    logits, labels = logits[finite].double(), labels[finite]
    if not len(labels):
        return 1.0

    def loss(log_temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits / math.exp(log_temperature), labels))

    bounds = tuple(math.log(end) for end in ENDS)
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)


def calibration_metrics(probabilities: Tensor, labels: Tensor) -> CalibrationMetrics:
    """How well (n, K) probabilities fit (n,) labels.

    ECE over 15 bins of equal width of the largest probability, (0, 1/15] and so on: the mean over rows of the distance
    between a bin's accuracy and its mean confidence. NLL with probabilities of at least 1e-8. Brier: the mean over
    rows of the squared distance to the label's one-hot row.
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
