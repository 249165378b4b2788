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

PARTS = ("source_lac", "distillation", "source_vac", "pseudo_label", "im", "ortho", "bce_source", "bce_target")
TERMS = ("lac", "vac", "im", "ortho", "bce_source", "bce_target")  # as METHOD.md names them: two parts, two parts, ...


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
    """How much each part of the loss counts, (8, R) in the order of :data:`PARTS`, and other numbers per run, (R,).

    Runs of one stack may differ in them; a part that a variant leaves out has weight 0.
    """

    parts: Tensor
    learned_weight: Tensor  # bool; else w = 0.5
    debias_tau: Tensor
    prior_momentum: Tensor

    @classmethod
    def of(cls, methods: Sequence[MethodSpec], dtype: torch.dtype, device: torch.device) -> "Coefficients":
        """Collect the coefficients of R runs."""
        losses = [method.loss for method in methods]
        parts = [
            (
                s.alpha,
                s.distill,
                s.beta,
                1.0,
                s.im,
                s.gamma * s.ortho,
                s.gamma * s.discriminator,
                s.gamma * s.discriminator,
            )
            for s in losses
        ]

        def column(values: list) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        return cls(
            column(parts).T.contiguous(),
            column([s.ensemble_weight == "learned" for s in losses]).bool(),
            column([method.eval.debias_tau for method in methods]),
            column([method.train.prior_momentum for method in methods]),
        )

    def runs(self, stop: int) -> "Coefficients":
        """Those of the first ``stop`` runs."""
        return Coefficients(*(getattr(self, entry.name)[..., :stop] for entry in fields(self)))


def loss_parts(heads: Heads, batch: Batch, coefficients: Coefficients, form: LossSpec) -> tuple[Tensor, Tensor, Tensor]:
    """All parts of a step's loss.

    Args:
        form: the structural choices (ortho_form, weight_per, train_ensemble), shared by the stack.
    Returns:
        (8, R) parts in the order of :data:`PARTS`, weighted; w (R,); target LAC logits (R, B, K).
    """
    c = coefficients
    f_vac, f_lac = heads.vac(batch.x), heads.lac(batch.x)
    (vac_source, vac_target), (lac_source, lac_target) = f_vac.chunk(2, 1), f_lac.chunk(2, 1)
    y_vac_source, y_vac_target = heads.classify(heads.bottleneck(f_vac)).chunk(2, 1)
    y_lac_source, y_lac_target = heads.lac_logits(f_lac, batch.text).chunk(2, 1)
    with torch.no_grad():
        teacher = heads.spec.temperature_scale * torch.bmm(batch.x.chunk(2, 1)[1], batch.text.mT)

    weight = heads.ensemble_weight(vac_target)
    if form.weight_per == "batch":
        weight = weight.mean(1, keepdim=True)
    weight = torch.where(c.learned_weight.view(-1, 1, 1), weight, 0.5)
    text_side = y_lac_target.detach()
    if form.train_ensemble == "debiased":
        text_side = text_side - (c.debias_tau.unsqueeze(-1) * heads.label_prior.log()).unsqueeze(1)
    ensemble = torch.lerp(text_side, y_vac_target, weight)

    if form.ortho_form == "rows":
        ortho = row_orthogonality(f_lac, f_vac)
    else:
        ortho = matrix_orthogonality(lac_source, vac_source) + matrix_orthogonality(lac_target, vac_target)
    both = torch.cat([vac_source, lac_source, vac_target, lac_target], 1)
    modality = heads.discriminate(both, batch.keep, both.shape[1] // 2).unflatten(-1, (2, -1))  # source, target

    parts = (
        cross_entropy(y_lac_source, batch.source_labels),
        distillation(y_lac_target, teacher),
        cross_entropy(y_vac_source, batch.source_labels),
        cross_entropy(ensemble, batch.pseudo_labels),
        information_maximisation(ensemble),
        ortho,
        *modality_bce(modality).unbind(-1),
    )
    return torch.stack(parts) * c.parts, weight.detach().mean((1, 2)), y_lac_target.detach()


def in_terms(parts: Tensor) -> Tensor:
    """(8, R) parts as the (6, R) terms of :data:`TERMS`: L_lac and L_vac have two parts each."""
    return torch.cat([parts[:4].unflatten(0, (2, 2)).sum(1), parts[4:]])


def train_step(heads: Heads, batch: Batch, coefficients: Coefficients, form: LossSpec, lr: Tensor) -> Tensor:
    """One step of all runs: losses, gradients, label prior, SGD.

    Args:
        lr: (R,) learning rates of this step.
    Returns:
        (R, 7): the loss terms in the order of :data:`TERMS`, then w.
    """
    parts, weight, y_lac_target = loss_parts(heads, batch, coefficients, form)
    parts.sum().backward()
    with torch.no_grad():
        fresh = y_lac_target.softmax(-1).mean(1)
        heads.label_prior.lerp_(fresh, 1 - coefficients.prior_momentum.unsqueeze(-1))
        heads.update(lr)
        return torch.cat([in_terms(parts.detach()), weight.unsqueeze(0)]).T
