"""Names of torch and open_clip that no documentation promises: all that the package uses stand here, and still work."""

import ast
import inspect
import re
from pathlib import Path

import open_clip
import pytest
import torch

PACKAGE = Path(__file__).parents[2] / "unimos_pipe"

# name -> what the package relies on, as torch 2.14 and open_clip 3.3 have it
USED = {
    "torch.cpu._is_avx512_bf16_supported": "() -> bool",
    "torch.cpu._is_amx_tile_supported": "() -> bool",
    "torch.native_batch_norm": (
        "aten::native_batch_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? running_mean, "
        "Tensor? running_var, bool training, float momentum, float eps) -> (Tensor, Tensor, Tensor)"
    ),
    "torch.ops.aten.native_batch_norm_backward": (
        "aten::native_batch_norm_backward(Tensor grad_out, Tensor input, Tensor? weight, Tensor? running_mean, "
        "Tensor? running_var, Tensor? save_mean, Tensor? save_invstd, bool train, float eps, bool[3] output_mask) "
        "-> (Tensor, Tensor, Tensor)"
    ),
    "torch.ops.aten.threshold_backward": (
        "aten::threshold_backward(Tensor grad_output, Tensor self, Scalar threshold) -> Tensor"
    ),
    "torch.ops.mkldnn._convolution_pointwise": (
        "mkldnn::_convolution_pointwise(Tensor X, Tensor W, Tensor? B, int[] padding, int[] stride, int[] dilation, "
        "int groups, str attr, Scalar?[] scalars, str? algorithm) -> Tensor Y"
    ),
    "torch.ops.mkldnn._convolution_pointwise.binary": (
        "mkldnn::_convolution_pointwise.binary(Tensor X, Tensor other, Tensor W, Tensor? B, int[] padding, "
        "int[] stride, int[] dilation, int groups, str binary_attr, Scalar? alpha, str? unary_attr, "
        "Scalar?[] unary_scalars, str? unary_algorithm) -> Tensor Y"
    ),
    "torch.ops.mkldnn._linear_pointwise": (
        "mkldnn::_linear_pointwise(Tensor X, Tensor W, Tensor? B, str attr, Scalar?[] scalars, str? algorithm) "
        "-> Tensor Y"
    ),
    "torch.ops.mkldnn._linear_pointwise.binary": (
        "mkldnn::_linear_pointwise.binary(Tensor X, Tensor other, Tensor W, Tensor? B, str attr) -> Tensor Y"
    ),
    "torch.ops.mkldnn._reorder_linear_weight": (
        "mkldnn::_reorder_linear_weight(Tensor self, int? batch_size=None) -> Tensor Y"
    ),
    "torch.ops.mkldnn._reorder_convolution_weight": (
        "mkldnn::_reorder_convolution_weight(Tensor self, int[2] padding=0, int[2] stride=1, int[2] dilation=1, "
        "int groups=1, int[]? input_size=None) -> Tensor Y"
    ),
    "open_clip.modified_resnet.Bottleneck": "conv1 conv2 conv3 avgpool downsample",
    "open_clip.modified_resnet.ModifiedResNet": "conv1 bn1 conv2 bn2 conv3 bn3 layer1 layer2 layer3 layer4",
    "open_clip.transform.MaybeConvertMode": "(mode='RGB') -> None",
    "open_clip.transformer.QuickGELU": "(*args: Any, **kwargs: Any) -> None",
    "open_clip.transformer.ResidualAttentionBlock": "ln_1 attn ls_1 ln_2 mlp ls_2",
    "open_clip.transformer.VisionTransformer": "conv1 transformer",
}
DOTTED = re.compile(r"[\w.]+")
PRIVATE = re.compile(r"(torch|torchvision|open_clip)\.(\w+\.)*_[a-z]")
MODULES = ("open_clip.modified_resnet.", "open_clip.transform.", "open_clip.transformer.")
UNDOCUMENTED = ("torch.ops.", "torch.native_", *MODULES)


def found(name: str) -> str:
    """What the installed library has under a name, in the words of ``USED``."""
    value = {"torch": torch, "open_clip": open_clip}[name.split(".")[0]]
    for part in name.split(".")[1:]:
        value = getattr(value, part)
    if name.startswith("torch.cpu."):
        return f"() -> {type(value()).__name__}"
    if name == "torch.native_batch_norm":
        return str(torch.ops.aten.native_batch_norm.default._schema)
    if name.startswith("torch.ops."):
        return str(value._schema if hasattr(value, "_schema") else value.default._schema)
    if name.endswith("Bottleneck"):
        return " ".join(part for part in USED[name].split() if hasattr(value(8, 8), part))
    if name.endswith("ModifiedResNet"):
        network = value(layers=(1, 1, 1, 1), output_dim=8, heads=1, image_size=32, width=8)
        return " ".join(part for part in USED[name].split() if hasattr(network, part))
    if name.endswith("ResidualAttentionBlock"):
        return " ".join(part for part in USED[name].split() if hasattr(value(8, 1), part))
    if name.endswith("VisionTransformer"):
        network = value(8, 8, width=8, layers=1, heads=1, mlp_ratio=1)
        return " ".join(part for part in USED[name].split() if hasattr(network, part))
    return str(inspect.signature(value))


@pytest.mark.parametrize("name", USED)
def test_a_name_without_a_promise_is_as_it_was(name):
    if ".mkldnn." in name and not torch.backends.mkldnn.is_available():
        pytest.skip("torch built without oneDNN")
    versions = f"torch {torch.__version__}, open_clip {open_clip.__version__}"
    try:
        now = found(name)
    except AttributeError as gone:
        pytest.fail(f"{versions} no longer has {name}: {gone}")
    assert now == USED[name], f"{versions} changed {name}"


def test_the_package_uses_no_other():
    used = {name for path in PACKAGE.rglob("*.py") for name in unpromised(ast.parse(path.read_text("utf-8")))}
    assert used == {*USED}


def unpromised(tree: ast.Module) -> set[str]:
    """The undocumented dotted names of torch and open_clip that a module uses or imports."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute) and DOTTED.fullmatch(text := ast.unparse(node)):
            names.add(text)
    return {name for name in names if name.startswith(UNDOCUMENTED) or PRIVATE.match(name)} - {
        "torch.ops.aten",
        "torch.ops.mkldnn",
    }
