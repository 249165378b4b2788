"""What a cached feature depends on, as data: equal identities, and only those, may share a cache entry."""

from dataclasses import dataclass
from pathlib import Path

from unimos_pipe.base.dataclass_parsing import fingerprint
from unimos_pipe.base.method_config import EncoderSpec

IMPORTED = "imported"  # stands where a precision would: features made elsewhere


@dataclass(frozen=True)
class EncoderIdentity:
    """Everything about an encoder that shapes its features; with an image's content it is all that they depend on."""

    weights_sha256: str
    model: str
    activation: str
    preprocessing: str
    precision: str


@dataclass(frozen=True)
class TextIdentity(EncoderIdentity):
    """What text features depend on: the encoder, and class names and prompts as written."""

    class_names: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]


def is_weights_path(pretrained: str) -> bool:
    """Whether a ``pretrained`` value means a file rather than one of open_clip's tags."""
    return "/" in pretrained or Path(pretrained).suffix in (".pt", ".pth", ".bin", ".safetensors")


def is_weights_name(model: str) -> bool:
    """Whether a model's name says where configuration and weights are: ``hf-hub:owner/name`` or ``local-dir:PATH``."""
    return model.startswith(("hf-hub:", "local-dir:"))


def readable_name(spec: EncoderSpec) -> str:
    """The part of an encoder-id that is known without the weights: ``RN50-quickgelu_openai``."""
    if is_weights_name(spec.model):
        return slug(spec.model.replace("local-dir:", "").rstrip("/"))
    source = Path(spec.pretrained).stem if is_weights_path(spec.pretrained) else spec.pretrained
    return f"{slug(spec.model)}_{slug(source)}"


def encoder_id(spec: EncoderSpec, identity: EncoderIdentity) -> str:
    """Name of the encoder's cache folder: readable name, precision and a short fingerprint of the identity."""
    return f"{readable_name(spec)}_{identity.precision}-{fingerprint(identity)[:8]}"


def imported_identity(name: str) -> EncoderIdentity:
    """An encoder of which only the name is known, as the user says it. It equals none of ours."""
    return EncoderIdentity("", name, "", "", IMPORTED)


def imported_id(name: str) -> str:
    """Name of the cache folder of features made elsewhere."""
    return f"{slug(name)[:80]}_{IMPORTED}-{fingerprint(imported_identity(name))[:8]}"


def slug(text: str) -> str:
    """Text as part of a file name: letters, digits, '-' and '.' stay, the rest becomes '-'."""
    return "".join(char if char.isalnum() or char in "-." else "-" for char in text)
