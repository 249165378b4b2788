"""The modules of UniMoS in training: each gives its output, and a function that takes the output's gradient back.

Going back returns the gradient of the input and hands those of the module's weights to the descent. The chain rule is
written out, because autograd's bookkeeping made a step an eighth longer; tests/methods/test_step.py holds it against
autograd.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from unimos_pipe.methods.unimos.descent import Descent
from unimos_pipe.methods.unimos.heads import BN_EPS, BN_MOMENTUM, Heads

Back = Callable[[Tensor, Descent], Tensor]


def linear(
    heads: Heads, name: str, x: Tensor, *, trained_rows: int | None = None, to_input: bool = True
) -> tuple[Tensor, Back]:
    """A linear layer, (R, n, in) -> (R, n, out).

    Args:
        trained_rows: only so many first rows teach the layer's own weights; all, if None.
        to_input: whether the input has a gradient; without, going back returns an empty tensor.
    """
    weight, bias = heads.params[f"{name}.weight"], heads.params[f"{name}.bias"]
    weight = heads.copies.get(f"{name}.weight", weight)
    low_x = x.to(weight.dtype)

    def back(grad: Tensor, descent: Descent) -> Tensor:
        low_grad = grad.to(weight.dtype)
        further = torch.bmm(low_grad, weight).to(bias.dtype) if to_input else grad.new_empty(0)
        descent.product(f"{name}.weight", low_grad[:, :trained_rows], low_x[:, :trained_rows])
        descent.gradient(f"{name}.bias", grad[:, :trained_rows].sum(1))
        return further

    return _linear(weight, bias, low_x), back


def _linear(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    if len(weight) == 1 and weight.device.type == "cpu":  # where W x^T takes two thirds of the time of x W^T
        output = bias.new_empty(*x.shape[:2], bias.shape[1])
        return output.copy_(torch.bmm(weight, x.mT).mT).add_(bias.unsqueeze(1))
    if weight.dtype == bias.dtype:
        return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
    return torch.bmm(x, weight.mT).to(bias.dtype).add_(bias.unsqueeze(1))


def bottleneck(heads: Heads, f_vac: Tensor) -> tuple[Tensor, Back]:
    """(R, n, H) features Phi_1; BatchNorm runs over all n rows of a run and updates its statistics."""
    hidden, linear_back = linear(heads, "bottleneck_linear", f_vac)
    count, rows, width = hidden.shape
    columns = hidden.transpose(0, 1).reshape(rows, count * width)  # each run's features are channels of their own
    gain, shift = (heads.params[f"bottleneck_bn.{part}"].reshape(-1) for part in ("weight", "bias"))
    running = heads.running_mean.view(-1), heads.running_var.view(-1)
    output, mean, inverse_std = torch.native_batch_norm(columns, gain, shift, *running, True, BN_MOMENTUM, BN_EPS)

    def back(grad: Tensor, descent: Descent) -> Tensor:
        grad = grad.transpose(0, 1).reshape(rows, count * width)
        found = torch.ops.aten.native_batch_norm_backward(
            grad, columns, gain, *running, mean, inverse_std, True, BN_EPS, [True, True, True]
        )
        descent.gradient("bottleneck_bn.weight", found[1].view(count, width))
        descent.gradient("bottleneck_bn.bias", found[2].view(count, width))
        return linear_back(found[0].view(rows, count, width).transpose(0, 1), descent)

    return output.view(rows, count, width).transpose(0, 1), back


def classify(heads: Heads, features: Tensor) -> tuple[Tensor, Back]:
    """(R, n, K) logits of the weight-normalised classifier Phi_2."""
    direction, length = heads.params["classifier.weight_v"], heads.params["classifier.weight_g"]
    norm = direction.norm(dim=-1, keepdim=True)
    unit = direction / norm
    weight = unit * length
    logits = torch.baddbmm(heads.params["classifier.bias"].unsqueeze(1), features, weight.mT)

    def back(grad: Tensor, descent: Descent) -> Tensor:
        grad_weight = torch.bmm(grad.mT, features)
        along = (grad_weight * unit).sum(-1, keepdim=True)
        across = (grad_weight - unit * along) * (length / norm)
        descent.gradient("classifier.weight_g", along)
        descent.gradient("classifier.weight_v", across)
        descent.gradient("classifier.bias", grad.sum(1))
        return torch.bmm(grad, weight)

    return logits, back


def lac_logits(heads: Heads, f_lac: Tensor, text: Tensor) -> tuple[Tensor, Back]:
    """(R, n, K) text logits, as :meth:`Heads.lac_logits` gives them."""

    def back(grad: Tensor, descent: Descent) -> Tensor:
        grad = heads.spec.temperature_scale * torch.bmm(grad, text)
        if heads.spec.similarity == "dot":
            return grad
        norm = f_lac.norm(dim=-1, keepdim=True)
        unit = f_lac / norm
        return (grad - unit * (grad * unit).sum(-1, keepdim=True)) / norm

    return heads.lac_logits(f_lac, text), back


def ensemble_weight(heads: Heads, f_vac: Tensor) -> tuple[Tensor, Back]:
    """(R, n, 1) weight of VAC per row, W(f_vac)."""
    hidden, first_back = linear(heads, "weight_fc1", f_vac)
    logits, second_back = linear(heads, "weight_fc2", hidden)
    weight = logits.sigmoid()

    def back(grad: Tensor, descent: Descent) -> Tensor:
        return first_back(second_back(grad * weight * (1 - weight), descent), descent)

    return weight, back


def discriminate(heads: Heads, features: Tensor, keep: Tensor, trained_rows: int) -> tuple[Tensor, Back]:
    """(R, n) modality logits, 0 = VAC and 1 = LAC.

    Args:
        keep: (R, n, hidden) dropout multipliers: 0, or 1 / (1 - p).
        trained_rows: only the first so many rows reach the discriminator's own weights.
    """
    hidden, first_back = linear(heads, "disc_fc1", features, trained_rows=trained_rows)
    hidden = hidden.relu_().mul_(keep)
    logits, second_back = linear(heads, "disc_fc2", hidden, trained_rows=trained_rows)

    def back(grad: Tensor, descent: Descent) -> Tensor:
        grad = second_back(grad.unsqueeze(-1), descent).mul_(keep)
        return first_back(torch.ops.aten.threshold_backward(grad, hidden, 0), descent)

    return logits.squeeze(-1), back
