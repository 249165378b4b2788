"""The loss terms of METHOD.md section 3, each with its gradient: one mean per stacked run, and what it changes by.

Shapes: logits (R, B, K), labels (R, B) int64, features (R, n, D), results (R,); a gradient has its argument's shape.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_GUARD = 1e-5


def cross_entropy(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy (eqs. 7 and 15); its gradient is (p - onehot) / B."""
    log_p, index = logits.log_softmax(-1), labels.unsqueeze(-1)
    value = -log_p.gather(-1, index).mean((-2, -1))
    return value, log_p.exp().scatter_(-1, index, -1.0, reduce="add") / labels.shape[-1]


def distillation(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """KL(softmax(student) || softmax(teacher)), the student first (eq. 6), and its gradient for the student."""
    log_student, log_teacher = student.log_softmax(-1), teacher.log_softmax(-1)
    p, gap = log_student.exp(), log_student - log_teacher
    rows = (p * gap).sum(-1, keepdim=True)
    return rows.mean((-2, -1)), p * (gap - rows) / student.shape[-2]


def information_maximisation(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Mean entropy of the rows minus the entropy of their mean, each log as log(p + 1e-5)."""
    rows = logits.softmax(-1)
    mean = rows.mean(-2, keepdim=True)
    slope = (_entropy_slope(rows) - _entropy_slope(mean)) / logits.shape[-2]
    gradient = rows * (slope - (rows * slope).sum(-1, keepdim=True))
    return entropy(rows).mean(-1) - entropy(mean).squeeze(-1), gradient


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy over the last dimension in nats, with log(p + 1e-5)."""
    return -(probabilities * (probabilities + LOG_GUARD).log()).sum(-1)


def _entropy_slope(p: Tensor) -> Tensor:
    guarded = p + LOG_GUARD
    return -guarded.log() - p / guarded


def row_orthogonality(f_lac: Tensor, f_vac: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sum over rows of the squared dot product of a row's two components; gradients for both."""
    dots = (f_lac * f_vac).sum(-1, keepdim=True)
    return dots.square().sum((-2, -1)), 2 * dots * f_vac, 2 * dots * f_lac


def matrix_orthogonality(f_lac: Tensor, f_vac: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The paper's form: squared Frobenius norm of f_lac f_vac^T per domain (a half of the rows), added."""
    halves = [half.flatten(0, 1) for half in (f_lac.unflatten(1, (2, -1)), f_vac.unflatten(1, (2, -1)))]
    dots = torch.bmm(halves[0], halves[1].mT)
    value = dots.square().sum((-2, -1)).view(-1, 2).sum(-1)
    return value, 2 * torch.bmm(dots, halves[1]).view_as(f_vac), 2 * torch.bmm(dots.mT, halves[0]).view_as(f_lac)


def modality_bce(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy of discriminator logits (..., 2B), the first B rows VAC (0), the others LAC (1)."""
    sign = logits.new_ones(2, 1)
    sign[1] = -1
    signed = logits.unflatten(-1, (2, -1)) * sign
    return F.softplus(signed).mean((-2, -1)), (signed.sigmoid() * sign).flatten(-2) / logits.shape[-1]
