"""Encoder presets: model, weights and licence by name."""

from dataclasses import dataclass
from pathlib import Path

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
