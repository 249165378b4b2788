"""Encoder presets: model, weights and licence by name; and the names of encoders from outside the package."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unimos_pipe.base import plugins
from unimos_pipe.base.errors import InputError, suggestions
from unimos_pipe.base.method_config import EncoderSpec

EMBEDDED = Path(__file__).parents[1] / "data" / "embedded" / "tiny_clip"  # configuration and weights


@dataclass(frozen=True)
class Preset:
    """A named encoder: its spec, and facts that are known without loading it.

    ``image_size`` is the side of the square input in pixels, ``dim`` the feature dimension D, ``hub`` the Hugging Face
    repository (None: embedded). ``context_length`` is the token limit of a prompt, start and end included; longer
    prompts are an error.
    """

    spec: EncoderSpec
    image_size: int
    dim: int
    context_length: int
    hub: str | None
    licence: str


def _preset(
    model: str, tag: str, image_size: int, dim: int, context_length: int, hub: str | None, licence: str
) -> Preset:
    return Preset(EncoderSpec(model, tag), image_size, dim, context_length, hub, licence)


PRESETS = {
    "tiny": _preset("tinyclip-r24-64", "embedded", 64, 128, 16, None, "MIT, for icons only"),
    "RN50": _preset("RN50-quickgelu", "openai", 224, 1024, 77, "timm/resnet50_clip.openai", "MIT"),
    "RN101": _preset("RN101-quickgelu", "openai", 224, 512, 77, "timm/resnet101_clip.openai", "MIT"),
    "ViT-B-16": _preset("ViT-B-16-quickgelu", "openai", 224, 512, 77, "timm/vit_base_patch16_clip_224.openai", "MIT"),
    "ViT-L-14": _preset("ViT-L-14-quickgelu", "openai", 224, 768, 77, "timm/vit_large_patch14_clip_224.openai", "MIT"),
    "DataComp-L-14": _preset(
        "ViT-L-14", "datacomp_xl_s13b_b90k", 224, 768, 77, "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K", "MIT"
    ),
    "SigLIP2-B-16": _preset("ViT-B-16-SigLIP2", "webli", 224, 768, 64, "timm/ViT-B-16-SigLIP2", "Apache-2.0"),
    "SigLIP2-SO400M-14": _preset(
        "ViT-SO400M-14-SigLIP2", "webli", 224, 1152, 64, "timm/ViT-SO400M-14-SigLIP2", "Apache-2.0"
    ),
    "MobileCLIP2-S0": _preset(
        "MobileCLIP2-S0", "dfndr2b", 256, 512, 77, "timm/MobileCLIP2-S0-OpenCLIP", "Apple AMLR, research only"
    ),
    "MobileCLIP2-B": _preset(
        "MobileCLIP2-B", "dfndr2b", 224, 512, 77, "timm/MobileCLIP2-B-OpenCLIP", "Apple AMLR, research only"
    ),
    "PE-Core-B-16": _preset("PE-Core-B-16", "meta", 224, 1024, 32, "timm/PE-Core-B-16", "Apache-2.0"),
    "PE-Core-L-14": _preset("PE-Core-L-14-336", "meta", 336, 1024, 32, "timm/PE-Core-L-14-336", "Apache-2.0"),
}
ENCODERS = {name: preset.spec for name, preset in PRESETS.items()}
PLUGIN = "plugin"  # in place of a weights tag, for encoders from outside the package
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def encoder_names() -> tuple[str, ...]:
    """Return the names of the presets, and of encoders from outside the package."""
    return (*ENCODERS, *plugins.outside_names(plugins.ENCODERS))


def find_encoder(name: str, others: str = "others as an EncoderSpec") -> EncoderSpec:
    """Return the spec of an encoder by name.

    Raises:
        InputError: no encoder of this name; lists the known ones, and says how to name ``others``.
    """
    if name in ENCODERS:
        return ENCODERS[name]
    if name not in plugins.outside_names(plugins.ENCODERS):
        raise InputError(f"unknown encoder {name!r}; {suggestions(name, encoder_names())}; {others}")
    return EncoderSpec(name, PLUGIN)


def encoder_name(model: str) -> str | None:
    """Return the name of the preset with a model, or of the encoder from outside the package; None without one."""
    preset = next((name for name, spec in ENCODERS.items() if spec.model == model), None)
    return preset or (model if model in plugins.outside_names(plugins.ENCODERS) else None)


def register_encoder(
    name: str,
    load: Callable,
    *,
    version: str,
    image_size: int = 224,
    mean: tuple[float, float, float] = CLIP_MEAN,
    std: tuple[float, float, float] = CLIP_STD,
    logit_scale: float | None = None,
) -> None:
    """Make an encoder known by name: to ``extract``, recipes, ``predict`` and completion.

    Args:
        name: letters, digits, '-' and '.'.
        load, version, image_size, mean, std, logit_scale: see :class:`unimos_pipe.base.plugins.OutsideEncoder`.
    Raises:
        InputError: a name that a preset has.
    """
    if not name.replace("-", "").replace(".", "").isalnum() or name in ENCODERS:
        raise InputError(f"encoder {name!r}", expected="a name of letters, digits, '-' and '.' that no preset has")
    plugins.add_encoder(plugins.OutsideEncoder(name, load, version, image_size, mean, std, logit_scale))
