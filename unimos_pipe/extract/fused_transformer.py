"""bf16 blocks of a frozen vision transformer on a CPU: weights packed once, activation and residual in the products.

oneDNN stores a weight in blocks for its matrix product; torch's linear layer repeats this for each batch. The product
also applies the activation of the MLP, or adds the residual, before it rounds to bf16.
"""

import functools

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from unimos_pipe.extract.fused_operators import agree_with_fp32

QUICK_SLOPE = 1.702  # QuickGELU(x) = x sigmoid(1.702 x) = swish(1.702 x) / 1.702


class FusedLinear(nn.Module):
    """A frozen linear layer, then an activation (``gelu``, ``swish``) or the addition of a residual."""

    def __init__(self, weight: Tensor, bias: Tensor, activation: str = "none", algorithm: str = ""):
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None)
        self.bias, self.activation, self.algorithm = bias.detach(), activation, algorithm

    def forward(self, inputs: Tensor, residual: Tensor | None = None) -> Tensor:
        """Return (..., D) outputs of (..., C) inputs; with an (..., D) residual, their sum without an activation."""
        if residual is None:
            return torch.ops.mkldnn._linear_pointwise(
                inputs, self.weight, self.bias, self.activation, [], self.algorithm
            )
        return torch.ops.mkldnn._linear_pointwise.binary(inputs, residual, self.weight, self.bias, "add")


class FusedBlock(nn.Module):
    """A residual block: attention without a mask, and an MLP."""

    def __init__(self, block: ResidualAttentionBlock):
        super().__init__()
        attention, first, second = block.attn, block.mlp.c_fc, block.mlp.c_proj
        self.ln_1, self.ln_2, self.heads = block.ln_1, block.ln_2, attention.num_heads
        weight, bias = attention.in_proj_weight.detach().clone(), attention.in_proj_bias.detach().clone()
        for part in (weight, bias):  # scales the queries; exact for the usual 64 dimensions a head, by 1/8
            part[: attention.embed_dim] *= attention.head_dim**-0.5
        self.qkv = FusedLinear(weight, bias)
        self.out = FusedLinear(attention.out_proj.weight, attention.out_proj.bias)
        if isinstance(block.mlp.gelu, QuickGELU):
            self.first = FusedLinear(first.weight * QUICK_SLOPE, first.bias * QUICK_SLOPE, "swish")
            self.second = FusedLinear(second.weight / QUICK_SLOPE, second.bias)
        else:
            self.first = FusedLinear(first.weight, first.bias, "gelu", block.mlp.gelu.approximate)
            self.second = FusedLinear(second.weight, second.bias)

    def forward(self, inputs: Tensor, attn_mask: None = None) -> Tensor:
        """Return (n, T, D) outputs of (n, T, D) inputs."""
        inputs = self.out(self._attend(self.qkv(self.ln_1(inputs))), inputs)
        return self.second(self.first(self.ln_2(inputs)), inputs)

    def _attend(self, qkv: Tensor) -> Tensor:
        """Return (n, T, D) attention outputs of (n, T, 3 D) scaled queries, keys and values."""
        n, tokens, width = qkv.shape
        parts = qkv.view(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).contiguous()
        queries, keys, values = parts.view(3, n * self.heads, tokens, -1).unbind()
        outputs = torch.bmm(torch.bmm(queries, keys.transpose(1, 2)).softmax(-1), values)
        return outputs.view(n, self.heads, tokens, -1).transpose(1, 2).reshape(n, tokens, width // 3)


def fuse_transformer(net: VisionTransformer) -> None:
    """Fuse the blocks of a frozen bf16 vision transformer in place; blocks of other forms stay as they are."""
    blocks = net.transformer.resblocks
    for number, block in enumerate(blocks):
        if _is_plain(block):
            blocks[number] = FusedBlock(block)


def _is_plain(block: nn.Module) -> bool:
    """Return whether a block is one of CLIP's: no scaled layers, and GELU or QuickGELU."""
    return (
        type(block) is ResidualAttentionBlock
        and isinstance(block.ls_1, nn.Identity)
        and isinstance(block.ls_2, nn.Identity)
        and type(block.mlp.gelu) in (nn.GELU, QuickGELU)
    )


@functools.cache
def can_fuse_products() -> bool:
    """Return whether the CPU computes in bf16 and this torch's fused products are right."""
    return agree_with_fp32(_compute_probes)


def _compute_probes() -> list[tuple[Tensor, Tensor]]:
    """Return (fused output, fp32 value) of a product with each activation, with none, and with a residual."""
    wave = torch.linspace(0, 50, 32 * 32).sin().bfloat16()
    weight, bias, inputs = wave.view(32, 32) / 32, wave[:32] / 2, wave.view(4, 8, 32)
    plain = F.linear(inputs.float(), weight.float(), bias.float())
    gelu, swish, linear = (FusedLinear(weight, bias, *form) for form in (("gelu", "none"), ("swish",), ()))
    return [
        (gelu(inputs), F.gelu(plain)),
        (swish(inputs), F.silu(plain)),
        (linear(inputs), plain),
        (linear(inputs, inputs / 4), plain + inputs.float() / 4),
    ]
