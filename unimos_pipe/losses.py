"""The loss terms of METHOD.md section 3: logits in, one mean per stacked run out.

Shapes: logits (R, B, K), labels (R, B) int64, features (R, n, D), results (R,).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_GUARD = 1e-5


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy (eqs. 7 and 15)."""
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(labels.shape).mean(-1)


def distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(softmax(student) || softmax(teacher)), the student first (eq. 6)."""
    log_student, log_teacher = student.log_softmax(-1), teacher.log_softmax(-1)
    return (log_student.exp() * (log_student - log_teacher)).sum(-1).mean(-1)


def information_maximisation(logits: Tensor) -> Tensor:
    """Mean entropy of the rows minus the entropy of their mean, each log as log(p + 1e-5)."""
    rows = logits.softmax(-1)
    mean = rows.mean(-2)
    return entropy(rows).mean(-1) - entropy(mean)


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy over the last dimension in nats, with log(p + 1e-5)."""
    return -(probabilities * (probabilities + LOG_GUARD).log()).sum(-1)


def row_orthogonality(f_lac: Tensor, f_vac: Tensor) -> Tensor:
    """Sum over rows of the squared dot product of a row's two components."""
    return (f_lac * f_vac).sum(-1).square().sum(-1)


def matrix_orthogonality(f_lac: Tensor, f_vac: Tensor) -> Tensor:
    """The paper's form: squared Frobenius norm of f_lac f_vac^T; call it per domain and add."""
    return torch.bmm(f_lac, f_vac.mT).square().sum((-2, -1))


def modality_bce(logits: Tensor) -> Tensor:
    """Binary cross-entropy of discriminator logits (..., 2B), the first B rows VAC (0), the others LAC (1)."""
    sign = logits.new_ones(2, 1)
    sign[1] = -1
    return F.softplus(logits.unflatten(-1, (2, -1)) * sign).mean((-2, -1))
