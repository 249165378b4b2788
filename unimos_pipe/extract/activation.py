"""Activations of published CLIP weights, by open_clip's tables: QuickGELU or GELU."""

from collections.abc import Iterator
from pathlib import Path

import open_clip

from unimos_pipe.base.errors import InputError
from unimos_pipe.base.method_config import EncoderSpec
from unimos_pipe.cache.encoder_identity import is_weights_name

QUICK, PLAIN = "QuickGELU", "GELU"


def activation_of(config: dict) -> str:
    """Return the activation of a configuration of open_clip, of a model or of a weights tag."""
    return QUICK if config.get("quick_gelu") else PLAIN


def check_tag_activation(spec: EncoderSpec) -> None:
    """Raise InputError if a weights tag was trained with another activation than the model has.

    The wrong activation raises no error and corrupts the features. Needs no weights.
    """
    tag = open_clip.get_pretrained_cfg(spec.model, spec.pretrained) if not is_weights_name(spec.model) else None
    if tag:
        activation = activation_of(open_clip.get_model_config(spec.model))
        _check(spec.model, activation, activation_of(tag), f"weights {spec.pretrained!r}", tag.get("hf_hub", ""))


def check_file_activation(spec: EncoderSpec, weights: Path, sha256: str, activation: str) -> None:
    """Raise InputError if a weights file is known to be trained with another activation than ``activation``.

    Known are the files in whose download URL open_clip has a digest, and all files whose path contains "openai".
    """
    expected = published_activation(sha256)
    if expected is None and "openai" in str(weights).lower():
        expected = QUICK
    if expected is not None:
        _check(spec.model, activation, expected, f"weights {weights.name}")


def _check(model: str, activation: str, expected: str, weights: str, hub: str = "") -> None:
    """Raise InputError if a model's activation is not the one expected."""
    if activation == expected:
        return
    right = model.removesuffix("-quickgelu") if expected == PLAIN else f"{model}-quickgelu"
    if right == model or right not in open_clip.list_models():  # the tables contradict each other
        right = (
            f"hf-hub:{hub.rstrip('/')}, whose own configuration has the activation" if hub else f"one with {expected}"
        )
    raise InputError(
        f"{weights} were trained with {expected}, the model",
        expected=right,
        got=f"{model}, which has {activation} and would corrupt the features",
    )


def published_activation(sha256: str) -> str | None:
    """Return the activation of a published weights file, or None if open_clip's tables have no digest of it."""
    for digest, activation in _published_digests():
        if sha256.startswith(digest):
            return activation
    return None


def _published_digests() -> Iterator[tuple[str, str]]:
    """Yield digest and activation of each published file: a sha256, or its first 8 digits at the end of a name."""
    for model, tag in open_clip.list_pretrained():
        config = open_clip.get_pretrained_cfg(model, tag)
        folder, _, name = config.get("url", "").rpartition("/")
        for text in (folder.rpartition("/")[2], Path(name).stem.rpartition("-")[2]):
            if len(text) in (8, 64) and not set(text) - set("0123456789abcdef"):
                yield text, activation_of(config)
