"""One training step of R stacked runs (METHOD.md section 3). Deterministic; updates the heads in place."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from unimos_pipe.base.config import LossSpec, MethodSpec
from unimos_pipe.methods.unimos.heads import Heads
from unimos_pipe.methods.unimos.layers import bottleneck, classify, discriminate, ensemble_weight, lac_logits, linear
from unimos_pipe.methods.unimos.losses import (
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


@torch.inference_mode()
def train_step(heads: Heads, batch: Batch, coefficients: Coefficients, form: LossSpec, lr: Tensor) -> Tensor:
    """One step of all runs: losses, gradients, label prior, SGD.

    Args:
        form: the structural choices (ortho_form, weight_per, train_ensemble), shared by the stack.
        lr: (R,) learning rates of this step.
    Returns:
        (R, 7): the loss terms in the order of :data:`TERMS`, then w.
    """
    c = coefficients
    scale = dict(zip(PARTS, c.parts.unsqueeze(-1).unsqueeze(-1), strict=True))
    half = batch.x.shape[1] // 2  # rows before are source, rows from here on target
    per_domain = (-1, 2, half, batch.x.shape[2])

    f_vac, vac_back = linear(heads, "vision_separator", batch.x, to_input=False)
    f_lac, lac_back = linear(heads, "text_separator", batch.x, to_input=False)
    hidden, bottleneck_back = bottleneck(heads, f_vac)
    y_vac, classify_back = classify(heads, hidden)
    y_lac, logits_back = lac_logits(heads, f_lac, batch.text)
    row_weight, weight_back = ensemble_weight(heads, f_vac[:, half:])
    modality_rows = torch.stack([f_vac.view(per_domain), f_lac.view(per_domain)], 2).flatten(1, 3)
    modality, modality_back = discriminate(heads, modality_rows, batch.keep, 2 * half)

    teacher = heads.spec.temperature_scale * torch.bmm(batch.x[:, half:], batch.text.mT)
    weight = row_weight.mean(1, keepdim=True) if form.weight_per == "batch" else row_weight
    weight = torch.where(c.learned_weight.view(-1, 1, 1), weight, 0.5)
    text_side = y_lac[:, half:]
    if form.train_ensemble == "debiased":
        text_side = text_side - (c.debias_tau.unsqueeze(-1) * heads.label_prior.log()).unsqueeze(1)
    gap = y_vac[:, half:] - text_side
    ensemble = torch.addcmul(text_side, gap, weight)  # nothing but y_vac and w learns from it

    source_lac, to_source_lac = cross_entropy(y_lac[:, :half], batch.source_labels)
    distilled, to_target_lac = distillation(y_lac[:, half:], teacher)
    source_vac, to_source_vac = cross_entropy(y_vac[:, :half], batch.source_labels)
    pseudo_label, to_pseudo = cross_entropy(ensemble, batch.pseudo_labels)
    im, to_im = information_maximisation(ensemble)
    orthogonality = row_orthogonality if form.ortho_form == "rows" else matrix_orthogonality
    ortho, ortho_lac, ortho_vac = orthogonality(f_lac, f_vac)
    bce, to_modality = modality_bce(modality.unflatten(-1, (2, -1)))  # source, target
    parts = torch.stack([source_lac, distilled, source_vac, pseudo_label, im, ortho, *bce.unbind(-1)]) * c.parts

    # The way back: to_* are gradients, of the loss's parts first, then of what they were made from.
    to_ensemble = to_pseudo * scale["pseudo_label"] + to_im * scale["im"]
    to_weight = (to_ensemble * gap).sum(-1, keepdim=True)
    if form.weight_per == "batch":
        to_weight = to_weight.mean(1, keepdim=True).expand_as(row_weight)
    to_vac = bottleneck_back(classify_back(torch.cat([to_source_vac * scale["source_vac"], to_ensemble * weight], 1)))
    to_vac[:, half:] += weight_back(to_weight * c.learned_weight.view(-1, 1, 1))
    to_text = torch.cat([to_source_lac * scale["source_lac"], to_target_lac * scale["distillation"]], 1)
    to_lac = logits_back(to_text)
    to_both = modality_back((to_modality * c.parts[6:].T.unsqueeze(-1)).flatten(1)).view(-1, 2, 2, *per_domain[2:])
    for gradient, modality_side, ortho_side, back in (
        (to_vac, to_both[:, :, 0], ortho_vac, vac_back),
        (to_lac, to_both[:, :, 1], ortho_lac, lac_back),
    ):
        gradient.view(per_domain).add_(modality_side)
        back(gradient.addcmul_(ortho_side, scale["ortho"]))

    heads.label_prior.lerp_(y_lac[:, half:].softmax(-1).mean(1), 1 - c.prior_momentum.unsqueeze(-1))
    heads.update(lr)
    return torch.cat([in_terms(parts), weight.mean((1, 2)).unsqueeze(0)]).T


def in_terms(parts: Tensor) -> Tensor:
    """(8, R) parts as the (6, R) terms of :data:`TERMS`: L_lac and L_vac have two parts each."""
    return torch.cat([parts[:4].unflatten(0, (2, 2)).sum(1), parts[4:]])
