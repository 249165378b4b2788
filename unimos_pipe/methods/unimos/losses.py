"""The loss terms of METHOD.md section 3, one mean per stacked run; autograd gives their gradients.

Shapes: logits (R, B, K), labels (R, B) int64, features (R, n, D), results (R,).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_GUARD = 1e-5
MCC_TEMPERATURE = 2.5


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy (eqs. 7 and 15)."""
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return losses.view(labels.shape).mean(-1)


def distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(softmax(student) || softmax(teacher)), the student first (eq. 6)."""
    log_student, log_teacher = student.log_softmax(-1), teacher.log_softmax(-1)
    return (log_student.exp() * (log_student - log_teacher)).sum(-1).mean(-1)


def information_maximisation(logits: Tensor) -> Tensor:
    """Mean entropy of the rows minus the entropy of their mean, each log as log(p + 1e-5)."""
    rows = logits.softmax(-1)
    return entropy(rows).mean(-1) - entropy(rows.mean(-2))


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy over the last dimension in nats, with log(p + 1e-5)."""
    return -(probabilities * (probabilities + LOG_GUARD).log()).sum(-1)


def row_orthogonality(f_lac: Tensor, f_vac: Tensor) -> Tensor:
    """Sum over rows of the squared dot product of a row's two components."""
    return (f_lac * f_vac).sum(-1).square().sum(-1)


def matrix_orthogonality(f_lac: Tensor, f_vac: Tensor) -> Tensor:
    """The paper's form: squared Frobenius norm of f_lac f_vac^T per domain (a half of the rows), added."""
    lac, vac = (features.unflatten(1, (2, -1)).flatten(0, 1) for features in (f_lac, f_vac))
    return torch.bmm(lac, vac.mT).square().sum((-2, -1)).view(-1, 2).sum(-1)


def modality_bce(logits: Tensor) -> Tensor:
    """Binary cross-entropy of discriminator logits (R, 2B), the first B rows VAC (0), the others LAC (1)."""
    vac, lac = logits.chunk(2, -1)
    return torch.cat([F.softplus(vac), F.softplus(-lac)], -1).mean(-1)


def minimum_class_confusion(logits: Tensor) -> Tensor:
    """Confusion between classes, 0 to 1 (MCC: Jin et al., ECCV 2020, arXiv 1912.03699, eqs. 2-6).

    Logits are divided by a temperature of 2.5 and rows weighted by 1 + exp(-entropy), without gradient through the
    weights.
    """
    rows = (logits / MCC_TEMPERATURE).softmax(-1)
    weight = 1 + (-entropy(rows.detach())).exp()
    weight = weight / weight.mean(-1, keepdim=True)
    confusion = torch.bmm(rows.mT, rows * weight.unsqueeze(-1))
    confusion = confusion / confusion.sum(-1, keepdim=True)
    return 1 - confusion.diagonal(dim1=-2, dim2=-1).mean(-1)
