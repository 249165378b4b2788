"""Losses against slow loops and hand-worked cases."""

import math

import pytest
import torch

from unimos_pipe.methods.unimos.losses import (
    cross_entropy,
    distillation,
    information_maximisation,
    matrix_orthogonality,
    minimum_class_confusion,
    modality_bce,
    row_orthogonality,
)

# float64: 1e-12 is some thousand epsilons, 1e-9 some million; every formula here is a few sums of at most 15 terms.
pytestmark = pytest.mark.numerical
G = torch.Generator().manual_seed(3)
LOGITS = torch.randn(2, 4, 3, generator=G, dtype=torch.float64) * 3
OTHERS = torch.randn(2, 4, 3, generator=G, dtype=torch.float64) * 3
LABELS = torch.tensor([[0, 1, 2, 1], [2, 2, 0, 1]])


def softmax(row) -> list[float]:
    weights = [math.exp(value) for value in row]
    return [weight / sum(weights) for weight in weights]


def test_cross_entropy_is_the_mean_negative_log_likelihood_of_each_run():
    wanted = [
        -sum(math.log(softmax(row)[label]) for row, label in zip(logits, labels, strict=True)) / 4
        for logits, labels in zip(LOGITS.tolist(), LABELS.tolist(), strict=True)
    ]
    assert cross_entropy(LOGITS, LABELS).tolist() == pytest.approx(wanted, rel=1e-12)


def test_distillation_takes_the_student_first():
    def loop(student, teacher) -> float:
        total = 0.0
        for s, t in zip(student, teacher, strict=True):
            total += sum(p * (math.log(p) - math.log(q)) for p, q in zip(softmax(s), softmax(t), strict=True))
        return total / len(student)

    wanted = [loop(s, t) for s, t in zip(LOGITS.tolist(), OTHERS.tolist(), strict=True)]
    assert distillation(LOGITS, OTHERS).tolist() == pytest.approx(wanted, rel=1e-12)
    assert distillation(OTHERS, LOGITS).tolist() != pytest.approx(wanted, rel=1e-3)


def test_distillation_does_not_see_a_shift_of_the_teachers_rows():
    shifted = OTHERS - OTHERS.mean(-1, keepdim=True)
    assert distillation(LOGITS, shifted).tolist() == pytest.approx(distillation(LOGITS, OTHERS).tolist(), rel=1e-12)


def test_information_maximisation_by_hand():
    even = torch.zeros(1, 2, 2, dtype=torch.float64)  # every row undecided: both entropies are log 2
    assert float(information_maximisation(even)) == pytest.approx(0, abs=1e-12)
    sure = torch.tensor([[[50.0, -50.0], [-50.0, 50.0]]], dtype=torch.float64)  # sure rows, balanced classes
    wanted = -math.log(1 + 1e-5) + math.log(0.5 + 1e-5)
    assert float(information_maximisation(sure)) == pytest.approx(wanted, rel=1e-9)


def test_orthogonality_forms_by_loop():
    a, b = LOGITS, OTHERS
    rows = [sum(sum(x * y for x, y in zip(p, q, strict=True)) ** 2 for p, q in zip(run_a, run_b, strict=True))
            for run_a, run_b in zip(a.tolist(), b.tolist(), strict=True)]  # fmt: skip
    matrix = [sum(sum(x * y for x, y in zip(run_a[i], run_b[j], strict=True)) ** 2
                  for domain in ((0, 1), (2, 3)) for i in domain for j in domain)
              for run_a, run_b in zip(a.tolist(), b.tolist(), strict=True)]  # fmt: skip
    assert row_orthogonality(a, b).tolist() == pytest.approx(rows, rel=1e-12)
    assert matrix_orthogonality(a, b).tolist() == pytest.approx(matrix, rel=1e-12)


def test_modality_bce_counts_the_first_half_as_vac():
    logits = torch.tensor([[2.0, -1.0, 0.5, 3.0]], dtype=torch.float64)
    probability = [1 / (1 + math.exp(-value)) for value in logits[0].tolist()]
    wanted = -(sum(math.log(1 - p) for p in probability[:2]) + sum(math.log(p) for p in probability[2:])) / 4
    assert modality_bce(logits).tolist() == pytest.approx([wanted], rel=1e-12)


def test_minimum_class_confusion_by_loop():
    def loop(logits) -> float:
        rows = [softmax([value / 2.5 for value in row]) for row in logits]
        sure = [1 + math.exp(sum(p * math.log(p + 1e-5) for p in row)) for row in rows]
        confusion = [
            [sum(w * row[j] * row[k] for row, w in zip(rows, sure, strict=True)) for k in range(3)] for j in range(3)
        ]
        return sum(confusion[j][k] / sum(confusion[j]) for j in range(3) for k in range(3) if j != k) / 3

    wanted = [loop(run) for run in LOGITS.tolist()]
    assert minimum_class_confusion(LOGITS).tolist() == pytest.approx(wanted, rel=1e-12)
    sure = 500 * torch.eye(3, dtype=torch.float64).unsqueeze(0)
    assert float(minimum_class_confusion(sure)) == pytest.approx(0, abs=1e-12)
    assert float(minimum_class_confusion(0 * sure)) == pytest.approx(2 / 3, rel=1e-12)


def test_the_weights_of_class_confusion_carry_no_gradient():
    """Against the same value with its weights written down beforehand."""
    x = LOGITS.clone().requires_grad_()
    rows = (LOGITS / 2.5).softmax(-1)
    weights = 1 + (rows * (rows + 1e-5).log()).sum(-1).exp()
    (found,) = torch.autograd.grad(minimum_class_confusion(x).sum(), x)
    y = LOGITS.clone().requires_grad_()
    soft = (y / 2.5).softmax(-1)
    confusion = torch.einsum("rbj,rb,rbk->rjk", soft, weights, soft)
    value = 1 - (confusion / confusion.sum(-1, keepdim=True)).diagonal(dim1=1, dim2=2).mean(-1)
    (wanted,) = torch.autograd.grad(value.sum(), y)
    assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-14)
