"""Statistical anchors: Gaussian clusters of the target, tied to the prompts (StatA, arXiv 2501.03729).

x (n, D) target rows, mu (K, D) prompts, yhat (n, K) starting probabilities (zero-shot's, or another method's), W the
matrix of each row's 3 nearest rows by cosine (itself left out), w_ij = cosine; tau = 50, alpha = 1.
Start: r = yhat, m = mu, s0_d = (1/n) sum_ik r_ik (x_id - mu_kd)^2, s_k = s0 for all k.
Then ten times (5 inner steps, 1 outer step), then 5 inner steps; the answer is r.
Inner: r_ik proportional to
    yhat_ik exp{(1/tau) [-1/2 sum_d (x_id - m_kd)^2 / s_kd - 1/2 sum_d log s_kd + (tau/6) ((W + W^T) r)_ik]}.
Outer: n_k = rows whose argmax r is k; beta_k = n_k / (alpha + n_k);
    m_k = unit(beta_k unit(sum_i r_ik x_i) + (1 - beta_k) mu_k);
    s_k = beta_k sum_i r_ik (x_i - m_k)^2 / sum_i r_ik + (1 - beta_k) (s0 + (mu_k - m_k)^2).
Guards: sum_i r_ik is at least 1e-12, s at least 1e-8.

It keeps its ground where few of the K classes are present.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from unimos_pipe.methods import fused, zero_shot
from unimos_pipe.methods.base import MethodOutput
from unimos_pipe.methods.knn import find_neighbours
from unimos_pipe.methods.target_labels import set_target_labels
from unimos_pipe.methods.task import AdaptationTask

TAU = 50.0
NEIGHBOURS = 3
ALPHA = 1.0
OUTER, INNER = 10, 5
MIN_MASS, MIN_VARIANCE = 1e-12, 1e-8


@dataclass(frozen=True)
class NeighbourGraph:
    """W: cosines and row numbers (n, k) of each row's neighbours."""

    cosines: Tensor
    indices: Tensor

    def symmetric_matmul(self, r: Tensor) -> Tensor:
        """(W + W^T) r, (n, K), for r (n, K)."""
        total = torch.zeros_like(r)
        for cosine, index in zip(self.cosines.mT.unsqueeze(-1), self.indices.mT, strict=True):
            total += cosine * r[index]
            total.index_add_(0, index, cosine * r)
        return total


def log_gaussians(rows: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """-1/2 sum_d (x_id - m_kd)^2 / s_kd - 1/2 sum_d log s_kd, (n, K), for rows (n, D), means and variances (K, D)."""
    precisions = 1 / variances
    squares = rows.square() @ precisions.mT - 2 * rows @ (means * precisions).mT
    squares += (means.square() * precisions).sum(-1)
    return -(squares + variances.log().sum(-1)) / 2


def update_clusters(r: Tensor, rows: Tensor, text: Tensor, s0: Tensor) -> tuple[Tensor, Tensor]:
    """Outer step: return means and variances (K, D) of the clusters r (n, K), tied to the prompts and s0 (D,)."""
    members = torch.bincount(r.argmax(-1), minlength=len(text)).to(rows)
    beta = (members / (ALPHA + members)).unsqueeze(-1)
    mass = r.sum(0).clamp_min(MIN_MASS).unsqueeze(-1)
    sums = r.mT @ rows
    means = F.normalize(beta * F.normalize(sums, dim=-1) + (1 - beta) * text, dim=-1)
    inside = (r.mT @ rows.square() - 2 * means * sums + r.sum(0).unsqueeze(-1) * means.square()) / mass
    variances = beta * inside + (1 - beta) * (s0 + (text - means).square())
    return means, variances.clamp_min(MIN_VARIANCE)


def neighbour_graph(task: AdaptationTask) -> NeighbourGraph:
    """Return W of a task's target."""
    return NeighbourGraph(*find_neighbours(task.target.features, NEIGHBOURS))


@torch.no_grad()
def fit_from_logits(task: AdaptationTask, start: Tensor, graph: NeighbourGraph | None = None) -> MethodOutput:
    """Predict the target from starting logits (n, K); a class with -inf is never predicted.

    Args:
        graph: the target's :func:`neighbour_graph`; None computes it.
    """
    rows, text = task.target.features, task.text_features
    graph = graph or neighbour_graph(task)
    log_start = set_target_labels(task, start).log_softmax(-1)
    r, means = log_start.exp(), text
    mass = r.sum(0)
    s0 = (r.sum(1) @ rows.square() - 2 * (text * (r.mT @ rows)).sum(0) + mass @ text.square()) / len(rows)
    variances = s0.clamp_min(MIN_VARIANCE).expand_as(text)
    for outer in range(OUTER + 1):
        fixed = log_start + log_gaussians(rows, means, variances) / TAU
        for _ in range(INNER):
            log_r = (fixed + graph.symmetric_matmul(r) / 6).log_softmax(-1)
            r = log_r.exp()
        if outer < OUTER:
            means, variances = update_clusters(r, rows, text, s0)
    return MethodOutput(log_r)


def fit(task: AdaptationTask) -> MethodOutput:
    """Statistical anchors, started from zero-shot."""
    return fit_from_logits(task, zero_shot.fit(task).logits)


def fit_from_fused(task: AdaptationTask) -> MethodOutput:
    """Statistical anchors, started from :mod:`unimos_pipe.methods.fused`."""
    return fit_from_logits(task, fused.fit(task).logits)
