"""Modules of UniMoS in training: each returns its output and a function for the backward pass.

The backward function takes the gradient of the output, updates the module's weights by :class:`FusedSGD` and returns
the gradient of the input. It is written by hand because autograd made a step an eighth slower;
tests/methods/test_step.py compares it with autograd.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from unimos_pipe.methods.unimos.fused_sgd import FusedSGD
from unimos_pipe.methods.unimos.heads import BN_EPS, BN_MOMENTUM, Heads
from unimos_pipe.methods.unimos.random_streams import dropout_scale

Back = Callable[[Tensor, FusedSGD], Tensor]


def linear(
    heads: Heads, name: str, x: Tensor, *, trained_rows: int | None = None, to_input: bool = True
) -> tuple[Tensor, Back]:
    """Linear layer, (R, n, in) -> (R, n, out).

    Args:
        trained_rows: only the first ``trained_rows`` rows have gradients for the layer's weights; None: all.
        to_input: whether to compute the input's gradient; False: the backward function returns an empty tensor.
    """
    weight, bias = heads.params[f"{name}.weight"], heads.params[f"{name}.bias"]
    weight = heads.copies.get(f"{name}.weight", weight)
    low_x = x.to(weight.dtype)

    def back(grad: Tensor, sgd: FusedSGD) -> Tensor:
        low_grad = grad.to(weight.dtype)
        input_grad = torch.bmm(low_grad, weight).to(bias.dtype) if to_input else grad.new_empty(0)
        sgd.apply_product(f"{name}.weight", low_grad[:, :trained_rows], low_x[:, :trained_rows])
        sgd.apply_gradient(f"{name}.bias", grad[:, :trained_rows].sum(1))
        return input_grad

    return _linear(weight, bias, low_x), back


def _linear(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    if weight.dtype == bias.dtype:
        return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
    return torch.bmm(x, weight.mT).to(bias.dtype).add_(bias.unsqueeze(1))


def multiply_vectors(first: Tensor, second: Tensor) -> Tensor:
    """Return ``torch.bmm(first, second)`` where one side is a vector, rounded alike whatever the size of the stack.

    On a CPU a lone product with a vector takes another kernel than several do, which was the only operation by which a
    run depended on its stack. A lone one is therefore computed twice: these products are a thousandth of a step.
    """
    if len(first) > 1 or first.device.type != "cpu":
        return torch.bmm(first, second)
    return torch.bmm(first.expand(2, -1, -1), second.expand(2, -1, -1))[:1]


def bottleneck(heads: Heads, f_vac: Tensor) -> tuple[Tensor, Back]:
    """(R, n, H) features Phi_1; BatchNorm uses all n rows of a run and updates its running statistics."""
    hidden, linear_back = linear(heads, "bottleneck_linear", f_vac)
    count, rows, width = hidden.shape
    columns = hidden.transpose(0, 1).reshape(rows, count * width)  # each run's features are separate channels
    gain, shift = (heads.params[f"bottleneck_bn.{part}"].reshape(-1) for part in ("weight", "bias"))
    running = heads.running_mean.view(-1), heads.running_var.view(-1)
    output, mean, inverse_std = torch.native_batch_norm(columns, gain, shift, *running, True, BN_MOMENTUM, BN_EPS)

    def back(grad: Tensor, sgd: FusedSGD) -> Tensor:
        grad = grad.transpose(0, 1).reshape(rows, count * width)
        grads = torch.ops.aten.native_batch_norm_backward(
            grad, columns, gain, *running, mean, inverse_std, True, BN_EPS, [True, True, True]
        )
        sgd.apply_gradient("bottleneck_bn.weight", grads[1].view(count, width))
        sgd.apply_gradient("bottleneck_bn.bias", grads[2].view(count, width))
        return linear_back(grads[0].view(rows, count, width).transpose(0, 1), sgd)

    return output.view(rows, count, width).transpose(0, 1), back


def classify(heads: Heads, features: Tensor) -> tuple[Tensor, Back]:
    """(R, n, K) logits of the weight-normalised classifier Phi_2."""
    direction, length = heads.params["classifier.weight_v"], heads.params["classifier.weight_g"]
    norm = direction.norm(dim=-1, keepdim=True)
    unit = direction / norm
    weight = unit * length
    logits = torch.baddbmm(heads.params["classifier.bias"].unsqueeze(1), features, weight.mT)

    def back(grad: Tensor, sgd: FusedSGD) -> Tensor:
        grad_weight = torch.bmm(grad.mT, features)
        along = (grad_weight * unit).sum(-1, keepdim=True)
        across = (grad_weight - unit * along) * (length / norm)
        sgd.apply_gradient("classifier.weight_g", along)
        sgd.apply_gradient("classifier.weight_v", across)
        sgd.apply_gradient("classifier.bias", grad.sum(1))
        return torch.bmm(grad, weight)

    return logits, back


def lac_logits(heads: Heads, f_lac: Tensor, text: Tensor) -> tuple[Tensor, Back]:
    """(R, n, K) text logits, as :meth:`Heads.lac_logits`."""

    def back(grad: Tensor, sgd: FusedSGD) -> Tensor:
        grad = heads.spec.temperature_scale * torch.bmm(grad, text)
        if heads.spec.similarity == "dot":
            return grad
        norm = f_lac.norm(dim=-1, keepdim=True)
        unit = f_lac / norm
        return (grad - unit * (grad * unit).sum(-1, keepdim=True)) / norm

    return heads.lac_logits(f_lac, text), back


def ensemble_weight(heads: Heads, f_vac: Tensor) -> tuple[Tensor, Back]:
    """(R, n, 1) weight of VAC per row, W(f_vac).

    W's two linear layers have no activation between them and act as one vector. The first layer's gradient is an outer
    product, so its (256, D) matrix is multiplied with single rows instead of n rows.
    """
    first, second = heads.params["weight_fc1.weight"], heads.params["weight_fc2.weight"]
    first_bias, second_bias = (heads.params[f"weight_{layer}.bias"].unsqueeze(1) for layer in ("fc1", "fc2"))
    direction = multiply_vectors(second, first)  # (R, 1, D)
    shift = second_bias + multiply_vectors(second, first_bias.mT)
    weight = (shift + multiply_vectors(f_vac, direction.mT)).sigmoid()

    def back(grad: Tensor, sgd: FusedSGD) -> Tensor:
        grad = grad * weight * (1 - weight)
        weighted, total = multiply_vectors(grad.mT, f_vac), grad.sum(1, keepdim=True)  # (R, 1, D), (R, 1, 1)
        to_second = (
            multiply_vectors(first, weighted.mT).mT + total * first_bias
        )  # W x^T takes a third of the time of x W^T
        to_first_bias = (total * second).squeeze(1)
        sgd.apply_product("weight_fc1.weight", second, weighted)
        sgd.apply_gradient("weight_fc1.bias", to_first_bias)
        sgd.apply_gradient("weight_fc2.weight", to_second)
        sgd.apply_gradient("weight_fc2.bias", total.squeeze(1))
        return grad * direction

    return weight, back


def discriminate(heads: Heads, features: Tensor, dropout_mask: Tensor, trained_rows: int) -> tuple[Tensor, Back]:
    """(R, n) modality logits, 0 = VAC and 1 = LAC.

    The dropout factor 1 / (1 - p) multiplies the second layer's few weights instead of n hidden rows.

    Args:
        dropout_mask: (R, n, hidden) 1 for hidden units that dropout keeps, else 0.
        trained_rows: only the first ``trained_rows`` rows have gradients for the discriminator's weights.
    """
    hidden, first_back = linear(heads, "disc_fc1", features, trained_rows=trained_rows)
    hidden = hidden.relu_().mul_(dropout_mask)
    scale = dropout_scale(heads.spec.discriminator_dropout)
    direction = scale * heads.params["disc_fc2.weight"]  # (R, 1, hidden)
    logits = heads.params["disc_fc2.bias"].unsqueeze(1) + multiply_vectors(hidden, direction.mT)

    def back(grad: Tensor, sgd: FusedSGD) -> Tensor:
        grad = grad.unsqueeze(-1)
        own_grad = grad[:, :trained_rows]
        sgd.apply_gradient("disc_fc2.weight", scale * multiply_vectors(own_grad.mT, hidden[:, :trained_rows]))
        sgd.apply_gradient("disc_fc2.bias", own_grad.sum(1))
        return first_back(torch.ops.aten.threshold_backward(grad * direction, hidden, 0), sgd)  # 0 where dropped

    return logits.squeeze(-1), back
