"""Unknown score: how little a target row resembles every class, and a threshold that needs no target labels.

Three similarities of a row x are standardised over the target's rows and averaged:

1. the largest logit of stacked fusion (:mod:`unimos_pipe.methods.stacked`);
2. the largest cosine of the centred row to the centred means of the source's classes;
3. the largest cosine of the centred row to the centred prompts.

Centred is as in :func:`unimos_pipe.methods.auto.center_task`. The unknown score of a target row is minus the mean of
this average over the row and its 5 nearest target rows. A new row has no neighbours; its score is minus its own average
with the target's stored statistics, and its threshold is the one with the same share of the target's rows above.

The share of unknown rows is the smallest of three:

1. that of Otsu's threshold on the scores (IEEE Trans. Systems, Man, and Cybernetics 1979);
2. the share of rows whose second similarity, averaged over the same neighbours, is below the boundary that the source's
   rows have between their nearest class (their own class mean without the row) and their nearest other class, which is
   what a row of a class that is not there sees: as many of the first are below as of the second above;
3. one half.

It is scaled by (s - 0.6) / 0.12, between 0 and 1, where the separability s of the scores is the share of their variance
that lies between the two groups at Otsu's threshold: 0.64 for a normal distribution, 0.75 for a uniform one. So few
rows are unknown where the scores do not fall into two groups. Both numbers were chosen on development sets.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from unimos_pipe.methods.auto import center_task
from unimos_pipe.methods.base import LinearModel, present_classes
from unimos_pipe.methods.fused import TINY
from unimos_pipe.methods.task import AdaptationTask, LabelledFeatures

MAX_SHARE = 0.5
SEPARABLE_FROM, SEPARABLE_TO = 0.6, 0.72
LONE_ROWS_QUANTILE = 0.8  # of the nearest other class, where no class has two source rows
PREFIX = "unknown."  # of the scorer's tensors among a model's


@dataclass(frozen=True)
class UnknownScorer:
    """The unknown score of new rows; K present classes.

    ``weight`` (D, K) and ``bias`` (K,) are those of stacked fusion, ``target_mean`` (D,) is subtracted before cosines
    to ``class_means`` (K, D) and ``prompts`` (C, D). ``means`` and ``deviations`` (3,) are the similarities' over the
    target. A score of at least ``threshold`` (1,) is an unknown row.
    """

    weight: Tensor
    bias: Tensor
    target_mean: Tensor
    class_means: Tensor
    prompts: Tensor
    means: Tensor
    deviations: Tensor
    threshold: Tensor

    def similarities(self, rows: Tensor) -> Tensor:
        """Return the (n, 3) similarities of (n, D) unit-norm rows."""
        centered = F.normalize(rows - self.target_mean, dim=-1)
        parts = (rows @ self.weight + self.bias, centered @ self.class_means.mT, centered @ self.prompts.mT)
        return torch.stack([part.amax(-1) for part in parts], -1)

    def score(self, rows: Tensor) -> Tensor:
        """Return the (n,) unknown scores of (n, D) unit-norm rows."""
        return -((self.similarities(rows) - self.means) / self.deviations).mean(-1)

    def state_dict(self) -> dict[str, Tensor]:
        """Return all tensors on the CPU; each name begins with :data:`PREFIX`."""
        return {f"{PREFIX}{name}": tensor.cpu().contiguous() for name, tensor in vars(self).items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], device: torch.device) -> "UnknownScorer | None":
        """Return the scorer among a model's tensors; None without one. Raises KeyError if a part is missing."""
        if not any(name.startswith(PREFIX) for name in state):
            return None
        return cls(**{name: state[f"{PREFIX}{name}"].to(device) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class UnknownRows:
    """Scores (n,) of the target's rows, the threshold from which a row is unknown, and the scorer of new rows.

    ``otsu_share`` and ``source_share`` are the first two shares that bound the unknown ones; ``separability`` scales
    the smallest.
    """

    scores: Tensor
    threshold: float
    otsu_share: float
    source_share: float
    separability: float
    scorer: UnknownScorer


@torch.no_grad()
def find_unknown_rows(
    task: AdaptationTask, stacked: LinearModel, nearest: Tensor, share: float | None = None
) -> UnknownRows:
    """Score the target's rows and choose the threshold.

    Args:
        stacked: stacked fusion of the task.
        nearest: (n, k) row numbers of each target row's nearest other target rows.
        share: of the rows that are unknown; None: chosen without labels.
    """
    centered = center_task(task)
    scorer = _fit_scorer(task, centered, stacked)
    similarities = scorer.similarities(task.target.features)
    own_scores = -((similarities - scorer.means) / scorer.deviations).mean(-1)
    scores = average_neighbours(own_scores, nearest)
    cosines = average_neighbours(similarities[:, 1], nearest)
    otsu_threshold, separability = split_by_otsu(scores)
    otsu_share = float((scores >= otsu_threshold).double().mean())
    source_share = float((cosines < source_boundary(centered.source, len(task.text_features))).double().mean())
    scale = min(max((separability - SEPARABLE_FROM) / (SEPARABLE_TO - SEPARABLE_FROM), 0.0), 1.0)
    chosen = scale * min(otsu_share, source_share, MAX_SHARE) if share is None else share
    threshold = share_threshold(scores, chosen)
    new_rows_threshold = share_threshold(own_scores, float((scores >= threshold).double().mean()))
    scorer = replace(scorer, threshold=own_scores.new_tensor([new_rows_threshold]))
    return UnknownRows(scores, threshold, otsu_share, source_share, separability, scorer)


def _fit_scorer(task: AdaptationTask, centered: AdaptationTask, stacked: LinearModel) -> UnknownScorer:
    """Return the scorer with the target's statistics; its threshold is not set."""
    present, target = present_classes(task), task.target.features
    scorer = UnknownScorer(
        weight=stacked.weight[:, present],
        bias=stacked.bias[present],
        target_mean=target.mean(0),
        class_means=F.normalize(sum_classes(centered.source, len(present))[present], dim=-1),
        prompts=centered.text_features,
        means=target.new_zeros(3),
        deviations=target.new_ones(3),
        threshold=target.new_zeros(1),
    )
    similarities = scorer.similarities(target)
    deviations = similarities.std(0, correction=0).clamp_min(TINY)
    return replace(scorer, means=similarities.mean(0), deviations=deviations)


def average_neighbours(values: Tensor, nearest: Tensor) -> Tensor:
    """Return the (n,) means of (n,) values over each row and its neighbours (n, k)."""
    return (values + values[nearest].sum(-1)) / (nearest.shape[1] + 1)


def sum_classes(source: LabelledFeatures, classes: int) -> Tensor:
    """Return the (K, D) sums of each class's rows."""
    sums = source.features.new_zeros(classes, source.features.shape[1])
    return sums.index_add_(0, source.labels, source.features)


def split_by_otsu(values: Tensor) -> tuple[float, float]:
    """Return the threshold that maximises the variance between the values below and from it on (Otsu's method).

    Returns:
        The threshold, which is the mean of two neighbouring values, and the share of the variance that is between the
        two groups. Equal values have no threshold between them: infinity, and 0.
    """
    ordered = values.double().sort().values
    count = len(ordered)
    below = torch.arange(1, count, device=ordered.device)
    sums = ordered.cumsum(0)
    distances = (sums[-1] - sums[:-1]) / (count - below) - sums[:-1] / below
    between = (below * (count - below) * distances.square() / count**2).where(ordered[1:] > ordered[:-1], -1)
    if not len(between) or between.max() < 0:
        return float("inf"), 0.0
    cut = int(between.argmax())
    return float(ordered[cut : cut + 2].mean()), float(between[cut] / ordered.var(correction=0))


def share_threshold(scores: Tensor, share: float) -> float:
    """Return a threshold from which on lies this share of (n,) scores, rounded to whole rows.

    It is the mean of two neighbouring scores; for all or none of the rows 1 beyond the last.
    """
    ordered = scores.double().sort(descending=True).values
    count = round(share * len(ordered))
    if count == 0:
        return float(ordered[0]) + 1
    return float(ordered[count - 1 : count + 1].mean()) if count < len(ordered) else float(ordered[-1]) - 1


def source_boundary(source: LabelledFeatures, classes: int) -> float:
    """Return the cosine to a class mean that separates source rows whose class is there from rows whose is not.

    Each row has its largest cosine to class means with its own class's (without the row), and without its own class.
    The boundary is the smallest of these values that as large a share of the first is below as of the second is not.
    Rows that are alone in their class have no first value; if there are no others, the boundary is the 80% quantile of
    the second.

    Args:
        source: centred rows of at least two classes.
    """
    rows, labels = source.features, source.labels
    counts = torch.bincount(labels, minlength=classes)
    sums = sum_classes(source, classes)
    cosines = (rows @ F.normalize(sums, dim=-1).mT).masked_fill(counts == 0, -2)
    own = (rows * F.normalize(sums[labels] - rows, dim=-1)).sum(-1)
    without = cosines.scatter(1, labels.unsqueeze(1), -2).amax(-1)
    there = torch.maximum(own, without)[counts[labels] > 1].sort().values
    without = without.sort().values
    if not len(there):
        return float(without.double().quantile(LONE_ROWS_QUANTILE))
    candidates = torch.cat([there, without]).sort().values
    below = torch.searchsorted(there, candidates).double() / len(there)
    not_below = 1 - torch.searchsorted(without, candidates).double() / len(without)
    crossed = (below >= not_below).nonzero()
    return float(candidates[int(crossed[0])]) if len(crossed) else float(candidates[-1])
