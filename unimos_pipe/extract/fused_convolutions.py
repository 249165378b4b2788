"""bf16 convolutions of a frozen ResNet on a CPU, fused with the ReLU and the addition of the residual that follow.

oneDNN computes the three in one pass over memory and rounds to bf16 once instead of up to three times.
"""

import functools

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import Bottleneck, ModifiedResNet
from torch import Tensor, nn

from unimos_pipe.extract.fused_operators import agree_with_fp32

PACKED_FOR = 8  # images in the batch that the layout of packed weights is chosen for


class FusedConvolution(nn.Module):
    """A frozen convolution, an addition of a residual if one is passed, and a ReLU."""

    def __init__(self, conv: nn.Conv2d, *, relu: bool = True):
        super().__init__()
        self.weight, self.bias = conv.weight.detach(), conv.bias.detach()
        self.geometry = conv.padding, conv.stride, conv.dilation, conv.groups
        self.activation, self.is_packed = "relu" if relu else "none", False

    def forward(self, inputs: Tensor, residual: Tensor | None = None) -> Tensor:
        """Return (n, D, H', W') outputs of (n, C, H, W) channels-last inputs and an (n, D, H', W') residual."""
        if not self.is_packed:
            shape = [PACKED_FOR, *inputs.shape[1:]]
            self.weight = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *self.geometry, shape)
            self.is_packed = True
        convolution = self.weight, self.bias, *self.geometry
        if residual is None:
            return torch.ops.mkldnn._convolution_pointwise(inputs, *convolution, self.activation, [], "")
        return torch.ops.mkldnn._convolution_pointwise.binary(
            inputs, residual, *convolution, "add", 1.0, self.activation, [], ""
        )


class FusedBottleneck(nn.Module):
    """A residual block of three or four fused convolutions."""

    def __init__(self, block: Bottleneck):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = map(FusedConvolution, (block.conv1, block.conv2, block.conv3))
        self.avgpool, self.downsample = block.avgpool, nn.Identity()
        if block.downsample is not None:
            pool, conv, _ = block.downsample
            self.downsample = nn.Sequential(pool, FusedConvolution(conv, relu=False))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (n, D, H', W') outputs of (n, C, H, W) inputs."""
        return self.conv3(self.avgpool(self.conv2(self.conv1(inputs))), self.downsample(inputs))


def fuse_convolutions(net: ModifiedResNet) -> None:
    """Fuse the convolutions of a frozen bf16 ResNet in place. Its batch norms are folded, its weights channels-last."""
    for number in (1, 2, 3):
        net.register_module(f"conv{number}", FusedConvolution(net.get_submodule(f"conv{number}")))
        net.register_module(f"act{number}", nn.Identity())
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        for name, block in list(layer.named_children()):
            layer.register_module(name, FusedBottleneck(block))


@functools.cache
def can_fuse_convolutions() -> bool:
    """Return whether the CPU computes in bf16 and this torch's fused convolutions are right."""
    return agree_with_fp32(_compute_probes)


def _compute_probes() -> list[tuple[Tensor, Tensor]]:
    """Return (fused output, fp32 value) of a convolution with and without a residual."""
    wave = torch.linspace(0, 50, 32 * 32 * 9).sin()
    conv = nn.Conv2d(32, 32, 3, padding=1)
    conv.weight.copy_(wave.view(conv.weight.shape) / 32)
    conv.bias.copy_(wave[:32])
    conv = conv.bfloat16().to(memory_format=torch.channels_last)
    inputs = wave[:4096].view(2, 32, 8, 8).bfloat16().contiguous(memory_format=torch.channels_last)
    plain = F.conv2d(inputs.float(), conv.weight.float(), conv.bias.float(), padding=1)
    fused = FusedConvolution(conv)
    return [(fused(inputs), plain.relu()), (fused(inputs, inputs), (plain + inputs.float()).relu())]
