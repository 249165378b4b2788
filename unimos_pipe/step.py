"""One training step of R stacked runs (METHOD.md section 3). Deterministic; updates the heads in place."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from unimos_pipe.config import LossSpec, MethodSpec
from unimos_pipe.heads import Heads
from unimos_pipe.losses import (
    cross_entropy,
    distillation,
    information_maximisation,
    matrix_orthogonality,
    modality_bce,
    row_orthogonality,
)

TERMS = ("lac", "vac", "im", "ortho", "bce_source", "bce_target")


@dataclass(frozen=True)
class Batch:
    """One step's rows of R runs; the first half of ``x``'s rows is source, the second target."""

    x: Tensor  # (R, 2B, D)
    source_labels: Tensor  # (R, B)
    pseudo_labels: Tensor  # (R, B)
    text: Tensor  # (R, K, D)
    keep: Tensor  # (R, 4B, discriminator_hidden) dropout multipliers: 2B rows for source, 2B for target


@dataclass(frozen=True)
class Coefficients:
    """Weights of the loss terms, (R,) each, so that runs of one stack may differ in them."""

    alpha: Tensor
    beta: Tensor
    distill: Tensor
    im: Tensor
    ortho: Tensor
    discriminator: Tensor
    learned_weight: Tensor  # bool; else w = 0.5
    debias_tau: Tensor
    prior_momentum: Tensor

    @classmethod
    def of(cls, methods: Sequence[MethodSpec], dtype: torch.dtype, device: torch.device) -> "Coefficients":
        """Collect the coefficients of R runs."""
        rows = [
            (
                m.loss.alpha,
                m.loss.beta,
                m.loss.distill,
                m.loss.im,
                m.loss.gamma * m.loss.ortho,
                m.loss.gamma * m.loss.discriminator,
                m.loss.ensemble_weight == "learned",
                m.eval.debias_tau,
                m.train.prior_momentum,
            )
            for m in methods
        ]
        columns = [torch.tensor(column, dtype=dtype, device=device) for column in zip(*rows, strict=True)]
        columns[6] = columns[6].bool()
        return cls(*columns)

    def runs(self, stop: int) -> "Coefficients":
        """Those of the first ``stop`` runs."""
        return Coefficients(*(getattr(self, entry.name)[:stop] for entry in fields(self)))


def loss_terms(heads: Heads, batch: Batch, coefficients: Coefficients, form: LossSpec) -> tuple[dict, Tensor, Tensor]:
    """All loss terms of a step.

    Args:
        form: the structural choices (ortho_form, weight_per, train_ensemble), shared by the stack.
    Returns:
        {term: (R,)} in the order of :data:`TERMS`, each with its weight; w (R,); target LAC logits (R, B, K).
    """
    c = coefficients
    half = batch.x.shape[1] // 2
    f_vac, f_lac = heads.vac(batch.x), heads.lac(batch.x)
    y_vac = heads.classify(heads.bottleneck(f_vac))
    y_lac = heads.lac_logits(f_lac, batch.text)
    y_lac_target = y_lac[:, half:]
    with torch.no_grad():
        teacher = heads.spec.temperature_scale * torch.bmm(batch.x[:, half:], batch.text.mT)

    weight = heads.ensemble_weight(f_vac[:, half:])
    if form.weight_per == "batch":
        weight = weight.mean(1, keepdim=True)
    weight = torch.where(c.learned_weight.view(-1, 1, 1), weight, 0.5)
    text_side = y_lac_target.detach()
    if form.train_ensemble == "debiased":
        text_side = text_side - (c.debias_tau.unsqueeze(-1) * heads.label_prior.log()).unsqueeze(1)
    ensemble = weight * y_vac[:, half:] + (1 - weight) * text_side

    if form.ortho_form == "rows":
        ortho = row_orthogonality(f_lac, f_vac)
    else:
        ortho = matrix_orthogonality(f_lac[:, :half], f_vac[:, :half]) + matrix_orthogonality(
            f_lac[:, half:], f_vac[:, half:]
        )
    both = torch.cat([f_vac[:, :half], f_lac[:, :half], f_vac[:, half:], f_lac[:, half:]], 1)
    modality = heads.discriminate(both, batch.keep, trained_rows=2 * half)

    terms = {
        "lac": c.alpha * cross_entropy(y_lac[:, :half], batch.source_labels)
        + c.distill * distillation(y_lac_target, teacher),
        "vac": c.beta * cross_entropy(y_vac[:, :half], batch.source_labels)
        + cross_entropy(ensemble, batch.pseudo_labels),
        "im": c.im * information_maximisation(ensemble),
        "ortho": c.ortho * ortho,
        "bce_source": c.discriminator * modality_bce(modality[:, : 2 * half]),
        "bce_target": c.discriminator * modality_bce(modality[:, 2 * half :]),
    }
    return terms, weight.detach().mean((1, 2)), y_lac_target.detach()


def train_step(heads: Heads, batch: Batch, coefficients: Coefficients, form: LossSpec, lr: Tensor) -> Tensor:
    """One step of all runs: losses, gradients, label prior, SGD.

    Args:
        lr: (R,) learning rates of this step.
    Returns:
        (R, 7): the loss terms in the order of :data:`TERMS`, then w.
    """
    terms, weight, y_lac_target = loss_terms(heads, batch, coefficients, form)
    torch.stack(tuple(terms.values())).sum().backward()
    with torch.no_grad():
        momentum = coefficients.prior_momentum.unsqueeze(-1)
        heads.label_prior.mul_(momentum).add_((1 - momentum) * y_lac_target.softmax(-1).mean(1))
    heads.update(lr)
    return torch.stack([*(term.detach() for term in terms.values()), weight], -1)
