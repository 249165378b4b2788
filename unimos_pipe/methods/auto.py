"""auto: zero-shot and statistical anchors of centred features, averaged, as one linear model.

Three predictions are averaged on one scale (:func:`unimos_pipe.methods.ensemble3.average_logits`):

1. zero-shot;
2. statistical anchors (:mod:`unimos_pipe.methods.stata`) of centred features, started from stacked fusion of them;
3. the same, started from the equal weights of :mod:`unimos_pipe.methods.fused`.

Centred features are each domain's features minus their mean, and the prompts minus theirs, normalised again: the mean
shift between domains and between images and text goes. Where only some of the classes are said to occur in the target
(partial domain adaptation), whose mean then is that of other classes, anchors of the features as they are, started from
fused, are a fourth.

A linear head is fitted to the average: min over W, b of the target's mean CE(softmax(6 average), x W + b) + 1e-5
||W - W0||^2, from the prompts W0 = 6 x mu^T / sd. It predicts target rows and new rows alike.

No method is selected and nothing is tuned on a target. The parts were selected on the development sets of
unimos_pipe/methods/README.md.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from unimos_pipe.methods import fused, stata, zero_shot
from unimos_pipe.methods.accuracy_estimate import agreement_rate
from unimos_pipe.methods.base import LinearModel, MethodOutput
from unimos_pipe.methods.ensemble3 import average_logits
from unimos_pipe.methods.logistic_regression import minimise_cross_entropy
from unimos_pipe.methods.stacked import fit_stacked
from unimos_pipe.methods.target_labels import set_target_labels
from unimos_pipe.methods.task import TAUGHT, AdaptationTask, LabelledFeatures, UnlabelledFeatures

SHARPNESS = 6.0  # of the average whose parts have deviation one, as probabilities for the head
PULL = 1e-5
HEAD_TOLERANCE = 1e-5
MAX_HEAD_ROWS = 20_000
LabelSet = Literal["closed", "partial"]


@dataclass(frozen=True)
class AutoSelection:
    """The head's predictions, and what is known of them.

    ``head_agreement`` is the share of target rows whose class the head predicts as the average does;
    ``text_agreement`` that of rows whose class is the zero-shot one; ``reason`` is a sentence for users.
    """

    output: MethodOutput
    head_agreement: float
    text_agreement: float
    reason: str


def fit(task: AdaptationTask) -> MethodOutput:
    """Predictions of auto where all classes may occur in the target."""
    return fit_auto(task).output


@torch.no_grad()
def fit_auto(task: AdaptationTask, label_set: LabelSet | None = None) -> AutoSelection:
    """Fit the parts, their average and the head.

    Args:
        label_set: whether all classes occur in the target or only some; None (not known) is treated as closed.

    Raises:
        InputError: the source has rows of fewer than two classes.
    """
    text = zero_shot.fit(task).logits
    parts = [text, *fit_centered_anchors(task)]
    if label_set == "partial":
        parts.append(stata.fit_from_fused(task).logits)
    average = set_target_labels(task, average_logits(parts))
    output = fit_head(task, average).predict_target(task)
    same = agreement_rate(output.classes, text.argmax(-1))
    return AutoSelection(output, agreement_rate(output.classes, average.argmax(-1)), same, _reason(same))


def fit_centered_anchors(task: AdaptationTask) -> tuple[Tensor, Tensor]:
    """(n, K) logits of the anchors of centred features, started from stacked fusion and from fused."""
    centered = center_task(task)
    stacked = fit_stacked(centered)
    graph = stata.neighbour_graph(centered)
    models = stacked.model, fused.fit_model(centered, stacked.probe.model)
    starts = [model.logits(centered.target.features) for model in models]
    first, second = (stata.fit_from_logits(centered, start, graph).logits for start in starts)
    return first, second


def center_task(task: AdaptationTask) -> AdaptationTask:
    """The task with each domain's mean and the prompts' mean subtracted, of unit norm again."""
    source = task.source
    origins = torch.zeros_like(source.labels) if source.origins is None else source.origins
    features = torch.empty_like(source.features)
    target_mean = task.target.features.mean(0)
    for origin in origins.unique():
        rows = source.features[origins == origin]
        features[origins == origin] = _center_rows(rows, target_mean if origin == TAUGHT else rows.mean(0))
    return replace(
        task,
        source=LabelledFeatures(features, source.labels, f"{source.name}, centred", source.origins, source.weights),
        target=UnlabelledFeatures(_center_rows(task.target.features, target_mean), f"{task.target.name}, centred"),
        text_features=_center_rows(task.text_features, task.text_features.mean(0)),
    )


def fit_head(task: AdaptationTask, average: Tensor) -> LinearModel:
    """The linear model of raw features whose predictions come nearest to (n, K) averaged logits.

    Of more than 20,000 target rows, as many evenly spaced ones are fitted.
    """
    rows = task.target.features
    if len(rows) > MAX_HEAD_ROWS:
        drawn = torch.linspace(0, len(rows) - 1, MAX_HEAD_ROWS, device=rows.device).long()
        rows, average = rows[drawn], average[drawn]
    text = fused.center(task.text_features.mT)
    weight = SHARPNESS / fused.std(rows @ text).clamp_min(fused.TINY) * text
    parameters = minimise_cross_entropy(
        rows,
        (SHARPNESS * average).softmax(-1),
        torch.ones_like(rows[:, 0]),
        torch.cat([weight, weight.new_zeros(1, weight.shape[1])]),
        penalty=PULL,
        centre=weight,
        tolerance=HEAD_TOLERANCE,
    )
    return LinearModel(parameters[:-1], parameters[-1])


def _center_rows(rows: Tensor, mean: Tensor) -> Tensor:
    return F.normalize(rows - mean, dim=-1)


def _reason(same: float) -> str:
    """Return a sentence on what the average did, for users."""
    percent = round(100 * same)
    return (
        f"{percent}% of the images keep the class that the text alone gives them; for the other {100 - percent}% "
        "your labelled images and the images most like them said otherwise"
    )
