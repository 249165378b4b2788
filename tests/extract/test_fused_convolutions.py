"""Fused bf16 convolutions equal the separate operators up to rounding."""

import copy
from dataclasses import replace

import pytest
import torch
from factories.tasks import TINY
from open_clip.modified_resnet import ModifiedResNet

from unimos_pipe.extract import encoder as encoder_module
from unimos_pipe.extract.encoder import ClipEncoder, fold_batch_norms
from unimos_pipe.extract.fused_convolutions import FusedBottleneck, can_fuse_convolutions, fuse_convolutions

CPU = torch.device("cpu")
needs_fusion = pytest.mark.skipif(
    not can_fuse_convolutions(), reason="no bf16 in this CPU, or no fused operators in this torch"
)


def frozen_resnet() -> ModifiedResNet:
    """A small ResNet with blocks of each kind, and batch norms as far from the identity as trained ones."""
    torch.manual_seed(0)
    net = ModifiedResNet((1, 2, 1, 1), 32, 4, image_size=64, width=8).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1)
            torch.nn.init.normal_(module.bias, 0, 0.2)
    net.requires_grad_(False)
    fold_batch_norms(net)
    return net.to(memory_format=torch.channels_last)


@needs_fusion
@pytest.mark.numerical
@torch.inference_mode()
@pytest.mark.parametrize("count", [1, 11])
def test_fused_features_are_as_near_to_fp32_as_separate_operators(count):
    """They round less often; twice the separate operators' error allows for the luck of single values."""
    net = frozen_resnet()
    images = torch.randn(count, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    plain = copy.deepcopy(net).bfloat16()
    fused = copy.deepcopy(plain)
    fuse_convolutions(fused)
    exact = net(images.bfloat16().float())
    plain_error, fused_error = ((part(images.bfloat16()).float() - exact).abs().max() for part in (plain, fused))
    assert fused_error <= 2 * plain_error
    assert plain_error < 0.02 * exact.abs().max()


@needs_fusion
def test_a_bf16_encoder_is_fused_and_an_fp32_one_is_not(monkeypatch):
    half = replace(TINY, precision="bf16")
    fused, single = ClipEncoder(half, CPU), ClipEncoder(TINY, CPU)
    monkeypatch.setattr(encoder_module, "can_fuse_convolutions", lambda: False)
    plain = ClipEncoder(half, CPU)
    blocks = [isinstance(part.model.visual.layer1[0], FusedBottleneck) for part in (fused, single, plain)]
    assert blocks == [True, False, False]
    assert fused.identity == plain.identity
    pixels = torch.randint(0, 256, (9, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    cosines = torch.linalg.vecdot(fused.encode_images(pixels), plain.encode_images(pixels))
    assert cosines.min() >= 0.9995  # as near as bf16 must be to fp32
