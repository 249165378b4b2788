"""Inference on the whole target, clusters and pseudo-labels (METHOD.md section 4). No labels are used."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from unimos_pipe.base.method_config import EvalSpec
from unimos_pipe.methods.unimos.heads import Heads
from unimos_pipe.methods.unimos.schedules import BEFORE_TRAINING, inference_weight, pseudo_label_source

Branches = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
CHUNK = 8192  # rows per product; constant, so that results do not depend on free memory


@dataclass(frozen=True)
class TargetEvaluation:
    """Evaluation of one run on its whole target after an epoch; n rows, K classes, H bottleneck features."""

    epoch: int
    weight: float  # of VAC in the ensemble
    probabilities: Tensor  # (n, K) ensemble
    vac_predictions: Tensor  # (n,)
    text_predictions: Tensor  # (n,)
    vac_confidence: Tensor  # (n,), probability of the VAC prediction
    text_confidence: Tensor  # (n,)
    bottleneck: Tensor  # (n, H), before normalisation
    centroids: Tensor  # (K, H)
    cluster_labels: Tensor  # (n,)
    pseudo_labels: Tensor  # (n,), for the next epoch

    @property
    def predictions(self) -> Tensor:
        """(n,) argmax of the ensemble: the method's predictions."""
        return self.probabilities.argmax(-1)


def teacher_logits(x: Tensor, text: Tensor, scale: float) -> Tensor:
    """Zero-shot logits minus their mean over classes (eq. 6). x (n, D), text (K, D) -> (n, K)."""
    logits = scale * x @ text.mT
    return logits - logits.mean(-1, keepdim=True)


@torch.no_grad()
def evaluate_target(heads: Heads, x: Tensor, text: Tensor, epoch: int, spec: EvalSpec) -> TargetEvaluation:
    """Evaluate one run (R = 1) on its whole target and select the next pseudo-labels.

    Args:
        heads: the run's modules, without momentum: evaluation mode.
        x: (n, D) target features, unit norm.
        text: (K, D) prompt features, unit norm.
        epoch: -1 before training, then 0, 1, ...
    """
    weight = inference_weight(epoch, spec)
    compute_branches, parts = build_branches(heads, text, epoch, spec), []
    for rows in _chunks(len(x)):
        vac, text_logits, bottleneck = compute_branches(x[rows])
        probabilities = (weight * vac + (1 - weight) * text_logits).softmax(-1)
        vac_answer, text_answer = vac.softmax(-1).max(-1), text_logits.softmax(-1).max(-1)
        parts.append(
            (probabilities, vac_answer.indices, text_answer.indices, vac_answer.values, text_answer.values, bottleneck)
        )
    probabilities, vac, text_predictions, vac_confidence, text_confidence, bottleneck = (
        torch.cat(column) for column in zip(*parts, strict=True)
    )
    centroids = class_centroids(probabilities, bottleneck)
    clusters = nearest_centroid(bottleneck, centroids)
    # The teacher provides pseudo-labels only in epochs in which it is the text branch.
    label_sources = {"teacher": text_predictions, "cluster": clusters, "ensemble": probabilities.argmax(-1)}
    return TargetEvaluation(
        epoch,
        weight,
        probabilities,
        vac,
        text_predictions,
        vac_confidence,
        text_confidence,
        bottleneck,
        centroids,
        clusters,
        label_sources[pseudo_label_source(epoch, spec)],
    )


def build_branches(heads: Heads, text: Tensor, epoch: int, spec: EvalSpec) -> Branches:
    """Return the function of both branches at inference: x (n, D) -> (n, K) VAC and text logits, (n, H) bottleneck.

    Consecutive linear maps are one product: Phi_1 after G_vis, and, in the dot form, mu after G_txt.

    Args:
        heads, text, epoch, spec: as for :func:`evaluate_target`.
    """
    to_bottleneck, shift = heads.bottleneck_map(separated=epoch != BEFORE_TRAINING)
    to_text = heads.text_map(text) if epoch > 0 and heads.spec.similarity == "dot" else None
    penalty = spec.debias_tau * heads.label_prior[0].log()

    def compute_branches(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        bottleneck = torch.addmm(shift, x, to_bottleneck.mT)
        vac = heads.classify(bottleneck.unsqueeze(0))[0]
        if epoch <= 0:
            return vac, teacher_logits(x, text, heads.spec.temperature_scale), bottleneck
        if to_text:
            return vac, torch.addmm(to_text[1] - penalty, x, to_text[0].mT), bottleneck
        text_logits = heads.lac_logits(heads.lac(x.unsqueeze(0)), text.unsqueeze(0))[0]
        return vac, text_logits - penalty, bottleneck

    return compute_branches


def class_centroids(probabilities: Tensor, bottleneck: Tensor) -> Tensor:
    """c_k = sum_i P_ik b_i / (1e-8 + sum_i P_ik) of unit-norm rows b. (n, K), (n, H) -> (K, H)."""
    sums = sum(probabilities[rows].mT @ F.normalize(bottleneck[rows], dim=-1) for rows in _chunks(len(bottleneck)))
    return sums / (1e-8 + probabilities.sum(0)).unsqueeze(-1)


def nearest_centroid(bottleneck: Tensor, centroids: Tensor) -> Tensor:
    """(n,) class of the centroid with the highest cosine; a class without predicted mass is never selected."""
    directions = F.normalize(centroids, dim=-1, eps=1e-8)
    return torch.cat([(bottleneck[rows] @ directions.mT).argmax(-1) for rows in _chunks(len(bottleneck))])


def _chunks(rows: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, rows, CHUNK))
