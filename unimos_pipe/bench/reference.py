"""Reference implementation of UniMoS: one run with nn.Modules, autograd and torch's SGD, as METHOD.md describes it.

Parity tests and a benchmark compare the trainer of ``methods/unimos`` with it. It shares only the options with that
folder, and receives its random choices as an argument.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unimos_pipe.base.method_config import HeadSpec, MethodSpec
from unimos_pipe.methods.task import AdaptationTask


class RandomChoices(Protocol):
    """Random choices of a run; the random streams of a training run satisfy it."""

    def draw_parameters(self, dim: int, classes: int, spec: HeadSpec) -> dict[str, Tensor]:
        """Return initial weights by name."""

    def next_batches(self, steps: int) -> tuple[Tensor, Tensor]:
        """Return (steps, B) source rows and (steps, B) target rows."""

    def draw_dropout_mask(self, steps: int, rows: int, width: int, dropout: float) -> Tensor:
        """Return (steps, rows, width) bool: hidden units that dropout keeps."""

    def draw_resets(self, params: dict[str, Tensor], probability: float) -> dict[str, Tensor]:
        """Return new values of the weight generator's tensors that are reset, by name."""


class ReferenceHeads(nn.Module):
    """Trainable modules of METHOD.md, section 2."""

    def __init__(self, dim: int, classes: int, spec: HeadSpec):
        super().__init__()
        self.vision_separator, self.text_separator = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.bottleneck_linear = nn.Linear(dim, spec.bottleneck_dim)
        self.bottleneck_bn = nn.BatchNorm1d(spec.bottleneck_dim)
        self.classifier = nn.utils.parametrizations.weight_norm(nn.Linear(spec.bottleneck_dim, classes), dim=0)
        self.weight_fc1, self.weight_fc2 = nn.Linear(dim, spec.weight_hidden), nn.Linear(spec.weight_hidden, 1)
        self.disc_fc1 = nn.Linear(dim, spec.discriminator_hidden)
        self.disc_fc2 = nn.Linear(spec.discriminator_hidden, 1)

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights by the names of :class:`RandomChoices`."""
        names = {
            "classifier.parametrizations.weight.original0": "classifier.weight_g",
            "classifier.parametrizations.weight.original1": "classifier.weight_v",
        }
        return {names.get(name, name): parameter for name, parameter in self.named_parameters()}

    def bottleneck(self, features: Tensor) -> Tensor:
        """Return (n, H) bottleneck features Phi_1 of (n, D) features."""
        return self.bottleneck_bn(self.bottleneck_linear(features))

    def weight(self, f_vac: Tensor) -> Tensor:
        """Return the (n, 1) weight of VAC per row."""
        return self.weight_fc2(self.weight_fc1(f_vac)).sigmoid()

    def discriminate(self, features: Tensor, dropout_mask: Tensor, frozen: bool = False) -> Tensor:
        """Return (n,) modality logits; ``dropout_mask`` holds multipliers, ``frozen`` stops gradients of weights."""
        weights = [self.disc_fc1.weight, self.disc_fc1.bias, self.disc_fc2.weight, self.disc_fc2.bias]
        first, shift, second, end = [tensor.detach() for tensor in weights] if frozen else weights
        return F.linear(F.relu(F.linear(features, first, shift)) * dropout_mask, second, end).squeeze(-1)


@dataclass(frozen=True)
class ReferenceEvaluation:
    """Evaluation of the target: (n, K) probabilities, (n,) clusters and (n,) pseudo-labels for the next epoch."""

    probabilities: Tensor
    cluster_labels: Tensor
    pseudo_labels: Tensor


class ReferenceRun:
    """One run of METHOD.md with ``batch`` rows per domain and ``steps`` steps per epoch."""

    def __init__(self, task: AdaptationTask, method: MethodSpec, random_choices: RandomChoices, batch: int, steps: int):
        self.task, self.method, self.random_choices, self.batch, self.steps = task, method, random_choices, batch, steps
        self.text = task.text_features
        classes, dim = self.text.shape
        self.scale = method.heads.temperature_scale
        self.heads = ReferenceHeads(dim, classes, method.heads).to(self.text.device, self.text.dtype)
        start = random_choices.draw_parameters(dim, classes, method.heads)
        with torch.no_grad():
            for name, tensor in self.heads.tensors().items():
                tensor.copy_(start[name])
        self.prior = torch.full_like(self.text[:, 0], 1 / classes)
        separators = [*self.heads.vision_separator.parameters(), *self.heads.text_separator.parameters()]
        train = method.train
        self.main_optimiser = torch.optim.SGD(self.heads.parameters(), train.lr, momentum=train.momentum)
        self.separator_optimiser = torch.optim.SGD(separators, train.lr, momentum=train.momentum)
        self.steps_taken = 0
        self.pseudo_labels: Tensor | None = None

    def train(self) -> Iterator[ReferenceEvaluation]:
        """Train all epochs; yield the evaluation before training and after every epoch."""
        for epoch in range(-1, self.method.train.epochs):
            if epoch >= 0:
                self.epoch()
            evaluation = self.evaluate(epoch)
            self.pseudo_labels = evaluation.pseudo_labels
            yield evaluation

    def epoch(self) -> None:
        """Reset tensors of the weight generator, then take all steps of an epoch."""
        train, heads = self.method.train, self.method.heads
        self.heads.train()
        with torch.no_grad():
            tensors = self.heads.tensors()
            for name, fresh in self.random_choices.draw_resets(tensors, train.reset_probability).items():
                tensors[name].copy_(fresh)
        source_batches, target_batches = self.random_choices.next_batches(self.steps)
        multiplier = 1 / (1 - round(256 * heads.discriminator_dropout) / 256)
        width, dropout = heads.discriminator_hidden, heads.discriminator_dropout
        for source, target in zip(source_batches, target_batches, strict=True):
            dropout_mask = (
                self.random_choices.draw_dropout_mask(1, 4 * self.batch, width, dropout)[0].to(self.text) * multiplier
            )
            self.step(source.to(self.text.device), target.to(self.text.device), dropout_mask)

    def step(self, source: Tensor, target: Tensor, dropout_mask: Tensor) -> None:
        """Take one step of section 3: both gradients at the same weights, each with its own optimiser."""
        main_loss, separator_loss, y_lac_t = self.losses(source, target, dropout_mask)
        separators = self.separator_optimiser.param_groups[0]["params"]
        rate = self.method.train.lr * (1 + self.method.train.lr_gamma * self.steps_taken) ** -self.method.train.lr_power
        for optimiser in (self.main_optimiser, self.separator_optimiser):
            optimiser.param_groups[0]["lr"] = rate
        gradients = torch.autograd.grad(separator_loss, separators, retain_graph=True, materialize_grads=True)
        self.main_optimiser.zero_grad()
        main_loss.backward()
        self.main_optimiser.step()
        for parameter, gradient in zip(separators, gradients, strict=True):
            parameter.grad = gradient
        self.separator_optimiser.step()
        momentum = self.method.train.prior_momentum
        self.prior = momentum * self.prior + (1 - momentum) * y_lac_t.softmax(-1).mean(0)
        self.steps_taken += 1

    def losses(self, source: Tensor, target: Tensor, dropout_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss without L_bce_t, L_bce_t, and the target's (B, K) LAC logits without gradient."""
        loss, task, half = self.method.loss, self.task, self.batch
        x = torch.cat([task.source.features[source], task.target.features[target]])
        labels, pseudo = task.source.labels[source], self.pseudo_labels[target]
        f_vac, f_lac = self.heads.vision_separator(x), self.heads.text_separator(x)
        y_vac, y_lac = self.heads.classifier(self.heads.bottleneck(f_vac)), self.lac_logits(f_lac)
        w = self.heads.weight(f_vac[half:])
        w = w if loss.weight_per == "row" else w.mean()
        w = 0.5 if loss.ensemble_weight == "fixed" else w
        text_logits = y_lac[half:].detach()
        if loss.train_ensemble == "debiased":
            text_logits = text_logits - self.method.eval.debias_tau * self.prior.log()
        ensemble = w * y_vac[half:] + (1 - w) * text_logits
        probabilities = ensemble.softmax(-1)
        teacher = self.scale * x[half:] @ self.text.T
        main_loss = loss.alpha * F.cross_entropy(y_lac[:half], labels) + loss.beta * F.cross_entropy(
            y_vac[:half], labels
        )
        main_loss = main_loss + F.cross_entropy(ensemble, pseudo)
        if loss.distill:
            student_logs, teacher_logs = y_lac[half:].log_softmax(-1), teacher.log_softmax(-1)
            main_loss = main_loss + F.kl_div(teacher_logs, student_logs, reduction="batchmean", log_target=True)
        if loss.im:
            main_loss = main_loss + _entropy(probabilities).mean() - _entropy(probabilities.mean(0))
        if loss.ortho and loss.ortho_form == "rows":
            main_loss = main_loss + loss.gamma * (f_lac * f_vac).sum(-1).square().sum()
        elif loss.ortho:
            parts = (slice(half), slice(half, None))
            main_loss = main_loss + loss.gamma * sum((f_lac[part] @ f_vac[part].T).square().sum() for part in parts)
        separator_loss = f_vac.new_zeros((), requires_grad=True)
        if loss.discriminator:
            domain_labels = torch.arange(2, device=x.device).repeat_interleave(half).to(x.dtype)
            bce = F.binary_cross_entropy_with_logits
            domains = [torch.cat([f_vac[part], f_lac[part]]) for part in (slice(half), slice(half, None))]
            main_loss = main_loss + loss.gamma * bce(
                self.heads.discriminate(domains[0], dropout_mask[: 2 * half]), domain_labels
            )
            separator_loss = loss.gamma * bce(
                self.heads.discriminate(domains[1], dropout_mask[2 * half :], frozen=True), domain_labels
            )
        return main_loss, separator_loss, y_lac[half:].detach()

    def lac_logits(self, f_lac: Tensor) -> Tensor:
        """Return (n, K) LAC logits: dot products, or cosines as in the paper, divided by T."""
        if self.method.heads.similarity == "cosine":
            f_lac = F.normalize(f_lac, dim=-1)
        return self.scale * f_lac @ self.text.T

    @torch.no_grad()
    def evaluate(self, epoch: int) -> ReferenceEvaluation:
        """Return the evaluation of section 4 after an epoch; epoch -1 is before training."""
        settings, x = self.method.eval, self.task.target.features
        self.heads.eval()
        hidden = self.heads.bottleneck(x if epoch < 0 else self.heads.vision_separator(x))
        text = self.scale * x @ self.text.T
        if epoch > 0:
            text = self.lac_logits(self.heads.text_separator(x)) - settings.debias_tau * self.prior.log()
        w = (
            settings.w_start
            + (settings.w_end - settings.w_start) * min(max(epoch, 0), settings.w_epochs) / settings.w_epochs
        )
        probabilities = (w * self.heads.classifier(hidden) + (1 - w) * text).softmax(-1)
        unit = F.normalize(hidden, dim=-1)
        centroids = probabilities.T @ unit / (1e-8 + probabilities.sum(0)).unsqueeze(-1)
        clusters = torch.stack([F.cosine_similarity(unit, c.unsqueeze(0), eps=1e-8) for c in centroids], -1).argmax(-1)
        if settings.pseudo_labels == "cluster" or (epoch > 0 and epoch % 2):
            pseudo = clusters
        else:
            pseudo = probabilities.argmax(-1) if epoch > 0 else text.argmax(-1)
        return ReferenceEvaluation(probabilities, clusters, pseudo)


def _entropy(p: Tensor) -> Tensor:
    return -(p * (p + 1e-5).log()).sum(-1)
