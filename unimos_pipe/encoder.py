"""The frozen CLIP encoders behind a small interface: images and sentences in, unit-norm features out."""

import contextlib
import hashlib
import json
import logging
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import open_clip
import torch
import torch.nn.functional as F
from open_clip.pretrained import download_pretrained, get_pretrained_cfg
from safetensors import SafetensorError

from unimos_pipe.config import ENCODERS, EncoderSpec
from unimos_pipe.decode import DECODER
from unimos_pipe.errors import UserError, listing
from unimos_pipe.identity import EncoderIdentity, is_weights_path, readable_name

EMBEDDED = Path(__file__).parent / "embedded" / "tiny_clip"
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Encoder(Protocol):
    """What stage one needs of an encoder; tests may bring their own."""

    identity: EncoderIdentity
    preprocess: Callable
    device: torch.device

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, H, W) preprocessed pixels -> (n, D) float32 unit-norm features on the CPU."""

    def encode_texts(self, sentences: Sequence[str]) -> torch.Tensor:
        """n sentences -> (n, D) float32 unit-norm features on the CPU."""


class ClipEncoder:
    """A frozen open_clip model in evaluation mode with its own evaluation preprocessing."""

    def __init__(self, spec: EncoderSpec, device: torch.device):
        """Load the model.

        Raises:
            UserError: unknown model or tag, weights missing or unreachable, weights of another architecture, or an
                activation that does not match the weights.
        """
        open_clip.add_model_config(EMBEDDED)
        if spec.model not in open_clip.list_models():
            close = [name for name in open_clip.list_models() if name.lower().startswith(spec.model[:4].lower())]
            raise UserError(f"open_clip has no model {spec.model!r}; close: {listing(close, 12)}")
        weights = find_weights(spec)
        sha256 = file_sha256(weights)
        config = open_clip.get_model_config(spec.model)
        activation = "QuickGELU" if config.get("quick_gelu") else "GELU"
        _refuse_wrong_activation(spec, weights, sha256, activation)
        with _quiet_logging():
            try:
                # Weights come from the hashed file itself; a tag's own preprocessing is passed along with it.
                tag = get_pretrained_cfg(spec.model, spec.pretrained)
                model, _, self.preprocess = open_clip.create_model_and_transforms(
                    spec.model,
                    pretrained=str(weights),
                    precision=spec.precision,
                    device=device,
                    weights_only=True,
                    image_mean=tag.get("mean"),
                    image_std=tag.get("std"),
                    image_interpolation=tag.get("interpolation"),
                    image_resize_mode=tag.get("resize_mode"),
                )
            except (RuntimeError, KeyError, ValueError, OSError, zipfile.BadZipFile, SafetensorError) as error:
                reason = " ".join(str(error).split())[:300]
                raise UserError(f"weights {weights} do not load into {spec.model}: {reason}") from None
            self.tokenizer = open_clip.get_tokenizer(spec.model)
        self.model = model.eval().requires_grad_(False)
        if any(module.training for module in self.model.modules()):
            raise AssertionError("an encoder module stayed in training mode")
        self.device = device
        self.dtype = DTYPES[spec.precision]
        preprocessing = {**open_clip.get_model_preprocess_cfg(self.model), "decoder": DECODER}
        self.identity = EncoderIdentity(
            sha256, spec.model, activation, json.dumps(preprocessing, sort_keys=True), spec.precision
        )

    @torch.inference_mode()
    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, H, W) preprocessed pixels -> (n, D) float32 unit-norm features on the CPU."""
        pixels = pixels.to(self.device, self.dtype, non_blocking=True)
        return F.normalize(self.model.encode_image(pixels).float(), dim=-1).cpu()

    @torch.inference_mode()
    def encode_texts(self, sentences: Sequence[str]) -> torch.Tensor:
        """n sentences -> (n, D) float32 unit-norm features on the CPU."""
        tokens = self.tokenizer(list(sentences)).to(self.device)
        parts = [self.model.encode_text(part).float() for part in tokens.split(256)]
        return F.normalize(torch.cat(parts), dim=-1).cpu()


def find_weights(spec: EncoderSpec) -> Path:
    """The weights file of a spec: the embedded one, a local path, or a tag's file, downloaded if need be.

    Raises:
        UserError: the path or tag does not exist, or the download failed.
    """
    if spec.pretrained == "embedded":
        return EMBEDDED / f"{spec.model}.safetensors"
    if is_weights_path(spec.pretrained):
        path = Path(spec.pretrained)
        if not path.is_file():
            raise UserError(f"no weights file {path}; pass --pretrained a file or one of open_clip's tags")
        return path
    tag = get_pretrained_cfg(spec.model, spec.pretrained)
    if not tag:
        known = open_clip.list_pretrained_tags_by_model(spec.model)
        raise UserError(
            f"{spec.model} has no weights tag {spec.pretrained!r}; known: {listing(known, 12)}; "
            "or pass --pretrained a local file"
        )
    try:
        with _quiet_logging():
            return Path(download_pretrained(tag))
    except Exception as error:  # the hub client raises its own kinds; all mean the same to the user
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"weights {spec.pretrained!r} of {spec.model} are not on this machine and cannot be downloaded ({reason}). "
            "Connect to the network once, or pass --pretrained the path of a local file"
        ) from None


def recorded_spec(identity: EncoderIdentity, encoder_id: str, weights: Path | None = None) -> EncoderSpec:
    """How to load a recorded encoder: from a file, or by the preset or tag that its encoder-id names.

    Raises:
        UserError: weights that came from a file, which must be named.
    """
    if weights is not None:
        text = str(weights)
        return EncoderSpec(identity.model, text if is_weights_path(text) else f"./{text}", identity.precision)
    tags = {spec.pretrained for spec in ENCODERS.values() if spec.model == identity.model}
    tags |= set(open_clip.list_pretrained_tags_by_model(identity.model))
    for tag in sorted(tags):
        if encoder_id.startswith(readable_name(EncoderSpec(identity.model, tag)) + "_"):
            return EncoderSpec(identity.model, tag, identity.precision)
    raise UserError(
        f"the encoder {encoder_id} was loaded from a file; pass --weights that file "
        f"(sha256 {identity.weights_sha256[:12]}...)"
    )


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _refuse_wrong_activation(spec: EncoderSpec, weights: Path, sha256: str, activation: str) -> None:
    """OpenAI's weights in a GELU model give wrong text features without a warning."""
    openai = spec.pretrained == "openai" or "openai" in str(weights).lower() or sha256 in _openai_hashes()
    if openai and activation != "QuickGELU":
        raise UserError(
            f"{weights.name} are OpenAI's weights and need QuickGELU",
            expected=f"--model {spec.model}-quickgelu",
            got=f"--model {spec.model}, which builds {activation} and would corrupt the text features",
        )


def _openai_hashes() -> set[str]:
    """sha256 of OpenAI's published files, which open_clip carries as a component of each download address."""
    configs = (get_pretrained_cfg(model, "openai") for model in open_clip.list_pretrained_models_by_tag("openai"))
    return {config["url"].split("/")[-2] for config in configs if config.get("url")}


@contextlib.contextmanager
def _quiet_logging() -> Iterator[None]:
    """open_clip logs each loading step to the root logger; what matters of it is raised or recorded here."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


@torch.inference_mode()
def encoder_speed(spec: EncoderSpec, device: torch.device, images: int = 4) -> tuple[float, int]:
    """Seconds per image of an architecture here, decoding left out, and its embedding size D.

    The weights are random, which compute as long as trained ones, so nothing needs to be at hand.
    """
    open_clip.add_model_config(EMBEDDED)
    with _quiet_logging(), torch.random.fork_rng(devices=[]):
        model = open_clip.create_model(spec.model, pretrained=None, precision=spec.precision, device=device).eval()
    size = open_clip.get_model_preprocess_cfg(model)["size"]
    pixels = torch.zeros(images, 3, *((size, size) if isinstance(size, int) else size), device=device)
    pixels = pixels.to(DTYPES[spec.precision])
    seconds = []
    for _ in range(3):  # the first one warms up; reading a value waits for the device
        started = time.perf_counter()
        features = model.encode_image(pixels)
        features.sum().item()
        seconds.append(time.perf_counter() - started)
    return min(seconds) / images, features.shape[-1]
