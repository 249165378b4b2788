"""The trainable modules of UniMoS (METHOD.md section 2), R runs stacked along the leading dimension.

A single run is R = 1. Parameters are plain tensors in a dict, named as ``<module>.<tensor>``; every product is a
batched one, so a stack costs one call where R runs would cost R.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from unimos_pipe.config import HeadSpec

WEIGHT_GENERATOR = ("weight_fc1.weight", "weight_fc1.bias", "weight_fc2.weight", "weight_fc2.bias")


def parameter_shapes(dim: int, classes: int, spec: HeadSpec) -> dict[str, tuple[int, ...]]:
    """The shape of every weight of one run.

    Args:
        dim: D, size of the CLIP embedding.
        classes: K.
    """
    width = spec.bottleneck_dim
    layers = {
        "vision_separator": (dim, dim),
        "text_separator": (dim, dim),
        "bottleneck_linear": (width, dim),
        "weight_fc1": (spec.weight_hidden, dim),
        "weight_fc2": (1, spec.weight_hidden),
        "disc_fc1": (spec.discriminator_hidden, dim),
        "disc_fc2": (1, spec.discriminator_hidden),
    }
    return {
        **{f"{name}.weight": shape for name, shape in layers.items()},
        **{f"{name}.bias": shape[:1] for name, shape in layers.items()},
        "bottleneck_bn.weight": (width,),
        "bottleneck_bn.bias": (width,),
        "classifier.weight_v": (classes, width),
        "classifier.weight_g": (classes, 1),
        "classifier.bias": (classes,),
    }


def initial_parameters(dim: int, classes: int, spec: HeadSpec, generator: torch.Generator) -> dict[str, Tensor]:
    """The starting weights of one run, float32 on the CPU (METHOD.md section 2).

    Args:
        dim: D, size of the CLIP embedding.
        classes: K.
        generator: CPU generator; the same state gives the same weights.
    """
    params = {name: torch.zeros(shape) for name, shape in parameter_shapes(dim, classes, spec).items()}

    def default_linear(name: str, weight: str = "weight") -> None:
        bound = 1 / math.sqrt(params[f"{name}.{weight}"].shape[1])
        params[f"{name}.{weight}"].uniform_(-bound, bound, generator=generator)
        params[f"{name}.bias"].uniform_(-bound, bound, generator=generator)

    default_linear("vision_separator")
    default_linear("text_separator")
    std = math.sqrt(2 / (dim + spec.bottleneck_dim))
    params["bottleneck_linear.weight"].normal_(0, std, generator=generator)
    params["bottleneck_bn.weight"].fill_(1)
    default_linear("classifier", "weight_v")
    params["classifier.weight_g"] = params["classifier.weight_v"].norm(dim=1, keepdim=True)
    params["classifier.bias"].zero_()
    default_linear("weight_fc1")
    default_linear("weight_fc2")
    default_linear("disc_fc1")
    default_linear("disc_fc2")
    return params


def reset_tensor(like: Tensor, generator: torch.Generator) -> Tensor:
    """A weight-generator tensor started again: xavier-uniform for a weight, zero for a bias (METHOD.md section 4)."""
    if like.ndim == 1:
        return torch.zeros(like.shape)
    bound = math.sqrt(6 / sum(like.shape))
    return torch.empty(like.shape).uniform_(-bound, bound, generator=generator)


class _MomentumLinear(torch.autograd.Function):
    """A batched linear layer whose weight gradient goes straight into its SGD momentum buffer.

    The buffer becomes ``beta * buffer + gradient`` in one product, so the gradient is never stored: at these sizes an
    optimiser's memory traffic costs as much as the arithmetic. Only the first ``rows`` rows reach the weights.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, weight_momentum, bias_momentum, beta, rows, products):
        x, weight = x.to(products), weight.to(products)
        ctx.save_for_backward(x, weight)
        ctx.buffers, ctx.beta, ctx.rows = (weight_momentum, bias_momentum), beta, rows
        return torch.baddbmm(bias.to(products).unsqueeze(1), x, weight.mT).to(bias.dtype)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        weight_momentum, bias_momentum = ctx.buffers
        trained = grad[:, : ctx.rows]
        grad = grad.to(x.dtype)
        if grad.dtype == weight_momentum.dtype:
            weight_momentum.baddbmm_(trained.mT, x[:, : ctx.rows], beta=ctx.beta)
        else:  # a product in lower precision cannot accumulate into the buffer itself
            weight_momentum.mul_(ctx.beta).add_(torch.bmm(grad[:, : ctx.rows].mT, x[:, : ctx.rows]))
        ones = trained.new_ones(1, 1, 1).expand(len(trained), 1, ctx.rows)
        bias_momentum.unsqueeze(1).baddbmm_(ones, trained, beta=ctx.beta)  # a sum over rows as a product
        grad_x = torch.bmm(grad, weight).to(bias_momentum.dtype) if ctx.needs_input_grad[0] else None
        return grad_x, None, None, None, None, None, None, None


@dataclass
class Heads:
    """R stacked runs: parameters, BatchNorm statistics, label priors and, for training, momentum buffers.

    ``params``, ``momentum``: name -> (R, ...). ``running_mean``, ``running_var``: (R, H). ``label_prior``: (R, K).
    Inputs ``x`` and features are (R, n, D); ``text`` is (R, K, D).
    """

    params: dict[str, Tensor]
    running_mean: Tensor
    running_var: Tensor
    label_prior: Tensor
    spec: HeadSpec
    momentum: dict[str, Tensor] | None = None
    beta: float = 0.9
    products: torch.dtype | None = None  # of linear layers' products in training, where it is not the weights' own

    @classmethod
    def stack(
        cls,
        runs: Sequence[Mapping[str, Tensor]],
        spec: HeadSpec,
        dtype: torch.dtype,
        device: torch.device,
        beta: float,
        products: torch.dtype | None = None,
    ) -> "Heads":
        """Stack the starting weights of R runs for training; priors start uniform, momentum at zero."""
        params = {name: torch.stack([run[name] for run in runs]).to(device, dtype).requires_grad_() for name in runs[0]}
        count, classes, width = params["classifier.weight_v"].shape
        zeros = torch.zeros(count, width, dtype=dtype, device=device)
        prior = torch.full((count, classes), 1 / classes, dtype=dtype, device=device)
        momentum = {name: torch.zeros_like(param, requires_grad=False) for name, param in params.items()}
        return cls(params, zeros, torch.ones_like(zeros), prior, spec, momentum, beta, products)

    @classmethod
    def from_state(cls, tensors: Mapping[str, Tensor], spec: HeadSpec, device: torch.device) -> "Heads":
        """One run (R = 1) for inference, from what :meth:`state` gave; tensors with other names are ignored."""
        held = ("bottleneck_bn.running_mean", "bottleneck_bn.running_var", "label_prior")
        stacked = {name: tensor.to(device).unsqueeze(0) for name, tensor in tensors.items()}
        params = {name: tensor for name, tensor in stacked.items() if name not in (*held, "text_features")}
        return cls(params, *(stacked[name] for name in held), spec)

    def runs(self, start: int, stop: int, training: bool = True) -> "Heads":
        """The runs from ``start`` to ``stop`` as views into the same memory."""
        cut = slice(start, stop)
        params = {name: param.detach()[cut].requires_grad_(training) for name, param in self.params.items()}
        momentum = {name: buffer[cut] for name, buffer in self.momentum.items()} if training else None
        return Heads(
            params,
            self.running_mean[cut],
            self.running_var[cut],
            self.label_prior[cut],
            self.spec,
            momentum,
            self.beta,
            self.products,
        )

    def _linear(self, name: str, x: Tensor, rows: int | None = None) -> Tensor:
        weight, bias = self.params[f"{name}.weight"], self.params[f"{name}.bias"]
        if self.momentum is None:
            return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
        return _MomentumLinear.apply(
            x,
            weight,
            bias,
            self.momentum[f"{name}.weight"],
            self.momentum[f"{name}.bias"],
            self.beta,
            x.shape[1] if rows is None else rows,
            self.products if self.products and weight.shape[1] > 1 else weight.dtype,
        )

    def vac(self, x: Tensor) -> Tensor:
        """Vision-associated component G_vis(x), not normalised."""
        return self._linear("vision_separator", x)

    def lac(self, x: Tensor) -> Tensor:
        """Language-associated component G_txt(x), not normalised."""
        return self._linear("text_separator", x)

    def lac_logits(self, f_lac: Tensor, text: Tensor) -> Tensor:
        """(R, n, K) text logits: 100 f_lac mu^T, or the paper's cosine over T."""
        if self.spec.similarity == "cosine":
            f_lac = F.normalize(f_lac, dim=-1)
        return self.spec.temperature_scale * torch.bmm(f_lac, text.mT)

    def bottleneck(self, f_vac: Tensor) -> Tensor:
        """(R, n, H) features Phi_1; in training BatchNorm runs over all n rows of a run and updates its statistics."""
        hidden = self._linear("bottleneck_linear", f_vac)
        count, rows, width = hidden.shape
        columns = hidden.transpose(0, 1).reshape(rows, count * width)  # each run's features are channels of their own
        columns = F.batch_norm(
            columns,
            self.running_mean.view(-1),
            self.running_var.view(-1),
            self.params["bottleneck_bn.weight"].reshape(-1),
            self.params["bottleneck_bn.bias"].reshape(-1),
            training=self.momentum is not None,
            momentum=0.1,
            eps=1e-5,
        )
        return columns.view(rows, count, width).transpose(0, 1)

    def classify(self, bottleneck: Tensor) -> Tensor:
        """(R, n, K) logits of the weight-normalised classifier Phi_2."""
        direction, norm = self.params["classifier.weight_v"], self.params["classifier.weight_g"]
        weight = torch._weight_norm(direction.flatten(0, 1), norm.flatten(0, 1), 0).view(direction.shape)
        return torch.baddbmm(self.params["classifier.bias"].unsqueeze(1), bottleneck, weight.mT)

    def ensemble_weight(self, f_vac: Tensor) -> Tensor:
        """(R, n, 1) weight of VAC per row, W(f_vac)."""
        return torch.sigmoid(self._linear("weight_fc2", self._linear("weight_fc1", f_vac)))

    def discriminate(self, features: Tensor, keep: Tensor, trained_rows: int) -> Tensor:
        """(R, n) modality logits, 0 = VAC and 1 = LAC.

        Args:
            keep: (R, n, hidden) dropout multipliers: 0, or 1 / (1 - p).
            trained_rows: only the first so many rows reach the discriminator's own weights.
        """
        hidden = torch.relu(self._linear("disc_fc1", features, trained_rows)) * keep
        return self._linear("disc_fc2", hidden, trained_rows).squeeze(-1)

    @torch.no_grad()
    def update(self, lr: Tensor) -> None:
        """One SGD-momentum step. ``lr`` is (R,). Gradients autograd kept (not those of linear layers) join here."""
        kept = [name for name, param in self.params.items() if param.grad is not None]
        buffers = [self.momentum[name] for name in kept]
        torch._foreach_mul_(buffers, self.beta)
        torch._foreach_add_(buffers, [self.params[name].grad for name in kept])
        for name in kept:
            self.params[name].grad = None
        falls = {ndim: -lr.view(-1, *[1] * (ndim - 1)) for ndim in (2, 3)}
        for name, param in self.params.items():
            param.addcmul_(self.momentum[name], falls[param.ndim])

    def state(self, run: int) -> dict[str, Tensor]:
        """One run's weights, BatchNorm statistics and label prior, as files keep them."""
        tensors = {name: param.detach()[run] for name, param in self.params.items()}
        tensors["bottleneck_bn.running_mean"] = self.running_mean[run]
        tensors["bottleneck_bn.running_var"] = self.running_var[run]
        tensors["label_prior"] = self.label_prior[run]
        return {name: tensor.cpu().clone() for name, tensor in tensors.items()}
