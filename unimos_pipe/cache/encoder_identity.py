"""Identities of encoders and prompts. Only equal identities share a cache entry."""

import json
from dataclasses import dataclass
from pathlib import Path

from unimos_pipe.base.dataclass_parsing import fingerprint
from unimos_pipe.base.method_config import DEFAULT_VIEWS, EncoderSpec

IMPORTED = "imported"  # in place of a precision, for imported features


@dataclass(frozen=True)
class EncoderIdentity:
    """All properties of an encoder that affect its features.

    The features of an image depend on this identity and on the bytes of its file, and on nothing else.
    """

    weights_sha256: str
    model: str
    activation: str
    preprocessing: str
    precision: str


@dataclass(frozen=True)
class TextIdentity(EncoderIdentity):
    """All that text features depend on: the encoder, the class names and the prompts."""

    class_names: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]


def recorded_views(identity: EncoderIdentity) -> tuple[str, ...]:
    """Return the views of an image that an encoder averages."""
    if identity.precision == IMPORTED:
        return DEFAULT_VIEWS
    return tuple(json.loads(identity.preprocessing).get("views", DEFAULT_VIEWS))


def is_weights_path(pretrained: str) -> bool:
    """Return True if a ``pretrained`` value is a file path and not an open_clip tag."""
    return "/" in pretrained or Path(pretrained).suffix in (".pt", ".pth", ".bin", ".safetensors")


def is_weights_name(model: str) -> bool:
    """Return True if a model name locates its own weights: ``hf-hub:owner/name`` or ``local-dir:PATH``."""
    return model.startswith(("hf-hub:", "local-dir:"))


def readable_name(spec: EncoderSpec) -> str:
    """Return the part of an encoder-id that is known without the weights: ``RN50-quickgelu_openai``."""
    views = "" if spec.views == DEFAULT_VIEWS else f"_{'-'.join(spec.views)}"
    if is_weights_name(spec.model):
        return slug(spec.model.replace("local-dir:", "").rstrip("/")) + views
    source = Path(spec.pretrained).stem if is_weights_path(spec.pretrained) else spec.pretrained
    return f"{slug(spec.model)}_{slug(source)}{views}"


def encoder_id(spec: EncoderSpec, identity: EncoderIdentity) -> str:
    """Return the name of an encoder's cache folder: readable name, precision short fingerprint of the identity."""
    return f"{readable_name(spec)}_{identity.precision}-{fingerprint(identity)[:8]}"


def imported_identity(name: str) -> EncoderIdentity:
    """Return the identity of an external encoder, of which only the name is known. No other encoder equals it."""
    return EncoderIdentity("", name, "", "", IMPORTED)


def imported_id(name: str) -> str:
    """Return the name of the cache folder of imported features."""
    return f"{slug(name)[:80]}_{IMPORTED}-{fingerprint(imported_identity(name))[:8]}"


def slug(text: str) -> str:
    """Return text for a file name: all but letters, digits, '-' and '.' becomes '-'."""
    return "".join(char if char.isalnum() or char in "-." else "-" for char in text)
