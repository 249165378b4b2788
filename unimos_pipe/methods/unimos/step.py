"""One training step of R stacked runs (METHOD.md section 3). Deterministic; updates the heads in place.

Losses are functions of the modules' outputs, and autograd computes their gradients with respect to these outputs. The
backward pass through the modules (``manual_backward.py``) updates the weights (``fused_sgd.py``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unimos_pipe.methods.unimos.fused_sgd import FusedSGD
from unimos_pipe.methods.unimos.heads import Heads
from unimos_pipe.methods.unimos.loss_terms import LOSSES, TERMS, Outputs
from unimos_pipe.methods.unimos.manual_backward import (
    bottleneck,
    classify,
    discriminate,
    ensemble_weight,
    lac_logits,
    linear,
)
from unimos_pipe.methods.unimos.stack_key import Coefficients, StackKey


@dataclass(frozen=True)
class Batch:
    """One step's rows of R runs; the first half of ``x``'s rows is source, the second target."""

    x: Tensor  # (R, 2B, D)
    source_labels: Tensor  # (R, B)
    pseudo_labels: Tensor  # (R, B)
    text: Tensor  # (R, K, D)
    dropout_mask: (
        Tensor  # (R, 4B, discriminator_hidden) 1 where dropout keeps, else 0: 2B rows for source, 2B for target
    )


@torch.no_grad()
def train_step(heads: Heads, batch: Batch, coefficients: Coefficients, stack_key: StackKey, lr: Tensor) -> Tensor:
    """Run one step of all runs: losses, gradients, label prior, SGD.

    Args:
        stack_key: shapes and structure that the runs share.
        lr: (R,) learning rates of this step.
    Returns:
        (R, terms + 1): the weighted loss terms in the order of :data:`TERMS`, 0 for one without a weight; then w.
    """
    half = batch.x.shape[1] // 2  # rows before are source, rows from here on target
    per_domain = (-1, 2, half, batch.x.shape[2])
    f_vac, vac_back = linear(heads, "vision_separator", batch.x, to_input=False)
    f_lac, lac_back = linear(heads, "text_separator", batch.x, to_input=False)
    hidden, bottleneck_back = bottleneck(heads, f_vac)
    y_vac, classify_back = classify(heads, hidden)
    y_lac, logits_back = lac_logits(heads, f_lac, batch.text)
    row_weight, weight_back = ensemble_weight(heads, f_vac[:, half:])
    modality_rows = torch.stack([f_vac.view(per_domain), f_lac.view(per_domain)], 2).flatten(1, 3)
    modality, modality_back = discriminate(heads, modality_rows, batch.dropout_mask, 2 * half)
    teacher = heads.spec.temperature_scale * torch.bmm(batch.x[:, half:], batch.text.mT)

    leaves = [tensor.detach().requires_grad_() for tensor in (f_vac, f_lac, y_vac, y_lac, row_weight, modality)]
    with torch.enable_grad():
        f_vac, f_lac, y_vac, y_lac, row_weight, modality = leaves
        weight = _training_weight(row_weight, coefficients, stack_key)
        lac_side = _training_lac_logits(y_lac[:, half:].detach(), heads, coefficients, stack_key)
        ensemble = torch.lerp(lac_side, y_vac[:, half:], weight)
        sides = modality.chunk(2, -1)  # source, target
        outputs = Outputs(
            f_vac, f_lac, y_vac, y_lac, ensemble, *sides, teacher, batch.source_labels, batch.pseudo_labels
        )
        values = torch.stack([LOSSES[name].value(outputs) for name in coefficients.losses]) * coefficients.weights
        gradients = torch.autograd.grad(values.sum(), leaves, materialize_grads=True)

    to_vac, to_lac, to_y_vac, to_y_lac, to_weight, to_modality = gradients
    descent = FusedSGD.create(heads, lr)
    through_vac = bottleneck_back(classify_back(to_y_vac, descent), descent)
    through_vac[:, half:] += weight_back(to_weight, descent)
    through_lac = logits_back(to_y_lac, descent)
    through_both = modality_back(to_modality, descent).view(-1, 2, 2, *per_domain[2:])
    for direct, through, modality_side, back in (
        (to_vac, through_vac, through_both[:, :, 0], vac_back),
        (to_lac, through_lac, through_both[:, :, 1], lac_back),
    ):
        through.view(per_domain).add_(modality_side)
        back(through.add_(direct), descent)

    heads.label_prior.lerp_(y_lac[:, half:].softmax(-1).mean(1), 1 - coefficients.prior_momentum.unsqueeze(-1))
    return torch.stack([*_terms(coefficients.losses, values), weight.mean((1, 2))], 1)


def _training_weight(row_weight: Tensor, coefficients: Coefficients, stack_key: StackKey) -> Tensor:
    """(R, 1, 1) or (R, B, 1) weight of VAC in the training ensemble, 0.5 if it is fixed (section 3.2)."""
    weight = row_weight.mean(1, keepdim=True) if stack_key.weight_per == "batch" else row_weight
    return torch.where(coefficients.learned_weight.view(-1, 1, 1), weight, 0.5)


def _training_lac_logits(y_lac: Tensor, heads: Heads, coefficients: Coefficients, stack_key: StackKey) -> Tensor:
    """(R, B, K) LAC logits of the target in the training ensemble: raw or debiased (section 6)."""
    if stack_key.train_ensemble == "raw":
        return y_lac
    return y_lac - (coefficients.debias_tau.unsqueeze(-1) * heads.label_prior.log()).unsqueeze(1)


def _terms(losses: Sequence[str], values: Tensor) -> list[Tensor]:
    """(R,) sums by term of the (losses, R) values, in the order of :data:`TERMS`; 0 for a term without a loss."""
    sums = dict.fromkeys(TERMS, torch.zeros_like(values[0]))
    for term in TERMS:
        if term_values := [value for name, value in zip(losses, values, strict=True) if LOSSES[name].term == term]:
            sums[term] = sum(term_values[1:], term_values[0])
    return list(sums.values())
