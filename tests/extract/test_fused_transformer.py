"""Fused bf16 transformer blocks equal the separate operators up to rounding."""

import copy
from collections.abc import Callable

import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from torch import nn

from unimos_pipe.extract import encoder as encoder_module
from unimos_pipe.extract.encoder import _freeze
from unimos_pipe.extract.fused_transformer import FusedBlock, FusedLinear, can_fuse_products, fuse_transformer

VISION = {"image_size": 32, "patch_size": 16, "width": 64, "layers": 2, "head_width": 32}
TEXT = {"context_length": 4, "vocab_size": 16, "width": 32, "heads": 1, "layers": 1}
needs_fusion = pytest.mark.skipif(
    not can_fuse_products(), reason="no bf16 in this CPU, or no fused operators in this torch"
)


def frozen_transformer(activation: Callable[[], nn.Module] = nn.GELU, **options: float) -> VisionTransformer:
    torch.manual_seed(0)
    sizes = {"image_size": 32, "patch_size": 8, "width": 128, "layers": 3, "heads": 2, "mlp_ratio": 4, "output_dim": 16}
    return VisionTransformer(**sizes, act_layer=activation, **options).eval().requires_grad_(False)


def tanh_gelu() -> nn.GELU:
    return nn.GELU(approximate="tanh")


@needs_fusion
@pytest.mark.numerical
@torch.inference_mode()
@pytest.mark.parametrize("activation", [nn.GELU, tanh_gelu, QuickGELU])
@pytest.mark.parametrize("count", [1, 11])
def test_fused_features_are_as_near_to_fp32_as_separate_operators(activation, count):
    """They round as often or less; twice the separate operators' error allows for the luck of single values."""
    net = frozen_transformer(activation)
    images = torch.randn(count, 3, 32, 32)
    plain = copy.deepcopy(net).bfloat16()
    fused = copy.deepcopy(plain)
    fuse_transformer(fused)
    assert all(isinstance(block, FusedBlock) for block in fused.transformer.resblocks)
    exact = net.bfloat16().float()(images.bfloat16().float())
    plain_error, fused_error = ((part(images.bfloat16()).float() - exact).abs().max() for part in (plain, fused))
    assert fused_error <= 2 * plain_error
    assert plain_error < 0.05 * exact.abs().max()


@needs_fusion
@torch.inference_mode()
def test_a_residual_is_not_changed():
    layer = FusedLinear(torch.eye(4, dtype=torch.bfloat16), torch.ones(4, dtype=torch.bfloat16))
    inputs, residual = torch.full((2, 4), 2.0).bfloat16(), torch.full((2, 4), 3.0).bfloat16()
    assert (layer(inputs, residual) == 6).all() and (residual == 3).all() and (inputs == 2).all()


@needs_fusion
def test_only_bf16_blocks_of_clips_form_are_fused(monkeypatch):
    def fused_blocks(precision: torch.dtype) -> list[bool]:
        model = _freeze(open_clip.CLIP(8, VISION, TEXT, cast_dtype=None).to(precision))
        return [isinstance(block, FusedBlock) for block in model.visual.transformer.resblocks]

    assert fused_blocks(torch.bfloat16) == [True, True] and fused_blocks(torch.float32) == [False, False]
    monkeypatch.setattr(encoder_module, "can_fuse_products", lambda: False)
    assert fused_blocks(torch.bfloat16) == [False, False]
    scaled = frozen_transformer(ls_init_value=0.1).bfloat16()
    fuse_transformer(scaled)
    assert not any(isinstance(block, FusedBlock) for block in scaled.transformer.resblocks)
