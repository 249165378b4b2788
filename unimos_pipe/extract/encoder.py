"""Frozen CLIP encoders: images and sentences in, unit-norm features out."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.transforms import Compose, Normalize

from unimos_pipe.base.atomic_io import file_sha256
from unimos_pipe.base.device import copy_to_cpu_async, cpu_has_bf16
from unimos_pipe.base.errors import InputError, join_names
from unimos_pipe.base.malloc import tune_malloc
from unimos_pipe.base.method_config import EncoderSpec
from unimos_pipe.cache.encoder_identity import EncoderIdentity, is_weights_name
from unimos_pipe.extract.activation import activation_of, check_file_activation, check_tag_activation
from unimos_pipe.extract.fused_convolutions import can_fuse_convolutions, fuse_convolutions
from unimos_pipe.extract.fused_transformer import can_fuse_products, fuse_transformer
from unimos_pipe.extract.image_loader import load_sample
from unimos_pipe.extract.jpeg_decoding import decoder_name
from unimos_pipe.extract.load_weights import load_weights
from unimos_pipe.extract.prompt_checks import tokenize_checked
from unimos_pipe.extract.tokenizer import load_tokenizer
from unimos_pipe.extract.views import build_crops
from unimos_pipe.extract.weights import EMBEDDED, find_weights, preprocessing, quiet_logging

CACHED_PIXELS = 8 * 224 * 224
ENCODER_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class ClipEncoder:
    """A frozen open_clip model in evaluation mode with its own evaluation preprocessing."""

    def __init__(self, spec: EncoderSpec, device: torch.device):
        """Load the model of a spec whose precision is not ``auto``.

        Raises:
            InputError: unknown model or tag, weights missing or unreachable, weights of another architecture, or an
                activation that does not match the weights.
        """
        open_clip.add_model_config(EMBEDDED)
        if not is_weights_name(spec.model) and spec.model not in open_clip.list_models():
            similar = [name for name in open_clip.list_models() if name.lower().startswith(spec.model[:4].lower())]
            raise InputError(f"open_clip has no model {spec.model!r}; close: {join_names(similar, 12)}")
        check_tag_activation(spec)
        weights = find_weights(spec)
        sha256 = file_sha256(weights)
        config = _read_model_config(spec.model)
        activation = activation_of(config)
        check_file_activation(spec, weights, sha256, activation)
        self.tokenizer = load_tokenizer(spec.model, config["text_cfg"])
        model, transform = create_open_clip_model(spec, weights, device)
        if device.type == "cpu":
            tune_malloc()
        self.model = _freeze(model)
        self.device = device
        self.dtype = ENCODER_DTYPES[spec.precision]
        self.preprocess, resizing = build_crops(transform, spec.views)
        self.logit_scale = native_logit_scale(model)
        self.value_range = pixel_scale_and_shift(transform.transforms[-1], device)
        shape = open_clip.get_model_preprocess_cfg(self.model)
        preprocessing = {**shape, "decoder": decoder_name(), **resizing}
        self.identity = EncoderIdentity(
            sha256, spec.model, activation, json.dumps(preprocessing, sort_keys=True), spec.precision
        )

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return (n, D) float32 unit-norm features on the CPU of uint8 preprocessed pixels.

        Args:
            pixels: (n, H, W, 3), or (n, V, H, W, 3) of V crops of each image. The features of its crops are averaged
                after normalisation, and the mean is normalised.
        """
        return self.start_encoding(pixels)()

    @torch.inference_mode()
    def start_encoding(self, pixels: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Start :meth:`encode_images`; return a function that waits for the features and returns them.

        A GPU reads ``pixels`` asynchronously, so they must not change before that function returns.
        """
        crops = pixels.reshape(-1, *pixels.shape[-3:])
        features = self.forward(self.scale_pixels(crops.to(self.device, non_blocking=True)))
        if pixels.ndim == 5:
            features = F.normalize(features.float(), dim=-1).view(*pixels.shape[:2], -1).mean(1)
        return copy_to_cpu_async(F.normalize(features.float(), dim=-1))

    @torch.inference_mode()
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return (n, D) unnormalised features on the device of (n, 3, H, W) encoder inputs.

        A CPU takes a few images at a time, so that activations stay in its cache (RN50 in bf16: 71 images/s in chunks
        of 8, 49 in chunks of 64).
        """
        count, _, height, width = inputs.shape
        if self.device.type == "cpu":
            count = max(1, CACHED_PIXELS // (height * width))
        return torch.cat([self.model.encode_image(part) for part in inputs.split(count)])

    @torch.inference_mode()
    def scale_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return (n, 3, H, W) encoder inputs, channels last, of (n, H, W, 3) uint8 pixels on the device.

        Computes CLIP's (x / 255 - mean) / std in float32 in one pass. A CPU takes a few images at a time, so that the
        float32 values stay in its cache (5 ms instead of 58 ms for 64 images).
        """
        n, height, width, _ = pixels.shape
        lines = pixels.reshape(n, height, width * 3)
        scale, shift = (part.repeat(width) for part in self.value_range)
        inputs = torch.empty(lines.shape, dtype=self.dtype, device=self.device)
        step = 4 if self.device.type == "cpu" else n
        for first in range(0, n, step):
            rows = slice(first, first + step)
            inputs[rows] = torch.addcmul(shift, lines[rows].float(), scale)
        return inputs.view(n, height, width, 3).permute(0, 3, 1, 2)

    @torch.inference_mode()
    def encode_texts(self, sentences: Sequence[str]) -> torch.Tensor:
        """Return (n, D) float32 unit-norm features on the CPU of n sentences. Raises InputError if one is too long."""
        tokens = tokenize_checked(self.tokenizer, sentences).to(self.device)
        parts = [self.model.encode_text(part).float() for part in tokens.split(256)]
        return F.normalize(torch.cat(parts), dim=-1).cpu()


def create_open_clip_model(spec: EncoderSpec, weights: Path, device: torch.device) -> tuple[torch.nn.Module, Compose]:
    """Return open_clip's unmodified model and evaluation transform. Raises InputError if the weights do not fit."""
    preprocessing_options = {f"image_{key}": value for key, value in preprocessing(spec).items()}
    with quiet_logging():
        try:
            model, _, transform = open_clip.create_model_and_transforms(
                spec.model,
                load_weights=False,  # loaded below from the file whose digest is recorded
                pretrained_text=False,
                precision=spec.precision,
                device=device,
                **preprocessing_options,
            )
        except (RuntimeError, KeyError, ValueError, TypeError, OSError) as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"model {spec.model} cannot be built: {reason}") from None
        load_weights(model, spec.model, weights, allow_torchscript=spec.allow_torchscript)
    return model, transform


def native_logit_scale(model: torch.nn.Module) -> float | None:
    """Return 1/T, rounded to two decimals, of a model with a logit bias (SigLIP and related); None for CLIP models.

    CLIP models learn a scale of at most 100; METHOD.md (section 1) uses 100 for all of them.
    """
    if getattr(model, "logit_bias", None) is None:
        return None
    return round(float(model.logit_scale.detach().float().exp()), 2)


def _freeze(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model in inference form.

    A ResNet gets folded batch norms and channels-last weights. In bf16 on a CPU operators are fused.
    """
    model = model.eval().requires_grad_(False)
    if any(module.training for module in model.modules()):
        raise AssertionError("an encoder module stayed in training mode")
    if isinstance(model.visual, ModifiedResNet):
        fold_batch_norms(model.visual)
        model.visual.to(memory_format=torch.channels_last)
        if _is_bf16_on_cpu(model.visual.conv1.weight) and can_fuse_convolutions():
            fuse_convolutions(model.visual)
    is_transformer = isinstance(model.visual, VisionTransformer)
    if is_transformer and _is_bf16_on_cpu(model.visual.conv1.weight) and can_fuse_products():
        fuse_transformer(model.visual)
    return model


def _is_bf16_on_cpu(weight: torch.Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.bfloat16


def fold_batch_norms(net: ModifiedResNet) -> None:
    """Fold each BatchNorm of a frozen ResNet into the preceding convolution."""
    for module in list(net.modules()):
        for (conv_name, conv), (norm_name, norm) in pairwise(module.named_children()):
            if isinstance(conv, torch.nn.Conv2d) and isinstance(norm, torch.nn.BatchNorm2d):
                module.register_module(conv_name, fuse_conv_bn_eval(conv, norm))
                module.register_module(norm_name, torch.nn.Identity())


def pixel_scale_and_shift(normalize: Normalize, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scale and shift, (3,) float32, from pixel values 0..255 to encoder inputs."""
    mean = torch.tensor(normalize.mean, dtype=torch.float64)
    std = torch.tensor(normalize.std, dtype=torch.float64)
    return (1 / (255 * std)).float().to(device), (-mean / std).float().to(device)


@dataclass(frozen=True)
class PrecisionCheck:
    """Comparison of a sample's 16-bit features with its fp32 features, which decides precision ``auto``."""

    precision: str
    device: str
    candidate: str  # the 16-bit precision that was tried
    smallest_cosine: float  # between 16-bit and fp32 features of an image
    images: int  # size of the sample

    def __str__(self) -> str:
        return (
            f"precision {self.precision}: smallest cosine between {self.candidate} and fp32 features "
            f"{self.smallest_cosine:.5f} on {self.images} image(s)"
        )


def load_encoder(
    spec: EncoderSpec, device: torch.device, sample: Sequence[Path]
) -> tuple[ClipEncoder, PrecisionCheck | None]:
    """Load the encoder of a spec; precision ``auto`` becomes 16 bits if features stay close to fp32, else fp32.

    The candidate is the 16-bit precision that the hardware computes natively (fp16 on CUDA, bf16 on a CPU with
    AVX512-BF16 or AMX). It is taken if every feature of the sample has a cosine of at least :data:`MIN_COSINE` to its
    fp32 feature.

    Args:
        sample: image files to compare precisions on; unreadable ones are skipped.
    Returns:
        The encoder, and the comparison if there was one.
    """
    if spec.precision != "auto":
        return ClipEncoder(spec, device), None
    full = ClipEncoder(replace(spec, precision="fp32"), device)
    candidate = native_half_precision(device)
    pixels = load_sample(sample, full.preprocess) if candidate else None
    if pixels is None:
        return full, None
    half = ClipEncoder(replace(spec, precision=candidate), device)
    cosines = (half.encode_images(pixels) * full.encode_images(pixels)).sum(-1)
    chosen = half if cosines.min() >= MIN_COSINE else full
    precision = chosen.identity.precision
    return chosen, PrecisionCheck(precision, device.type, candidate, cosines.min().item(), len(pixels))


MIN_COSINE = 0.9995


def create_random_model(name: str) -> torch.nn.Module:
    """Return an open_clip model with random weights from torch's global generator, for benchmarks.

    Raises:
        InputError: open_clip has no such model.
    """
    open_clip.add_model_config(EMBEDDED)
    if name not in open_clip.list_models():
        raise InputError(f"open_clip has no model {name!r}")
    with quiet_logging():
        return open_clip.create_model(name)


def native_half_precision(device: torch.device) -> str | None:
    """Return the 16-bit precision that the device computes natively, or None."""
    if device.type == "cuda":
        return "fp16"
    return "bf16" if device.type == "cpu" and cpu_has_bf16() else None


def _read_model_config(model: str) -> dict:
    """Return the configuration of a model. Raises InputError if that of a model folder cannot be read."""
    try:
        config = open_clip.get_model_config(model)
    except (OSError, ValueError) as error:
        raise InputError(f"model {model}: its configuration cannot be read: {error}") from None
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
        raise InputError(f"model {model}: its configuration lacks embed_dim, vision_cfg or text_cfg")
    return config


@torch.inference_mode()
def measure_encoder_speed(spec: EncoderSpec, device: torch.device, images: int = 4) -> tuple[float, int]:
    """Return seconds per image of an architecture on this device, without decoding, and its embedding size D.

    The weights are random, so none are needed; the time does not depend on their values. Precision ``auto`` becomes
    the native 16-bit precision of the device if there is one.
    """
    if spec.precision == "auto":
        spec = replace(spec, precision=native_half_precision(device) or "fp32")
    open_clip.add_model_config(EMBEDDED)
    with quiet_logging(), torch.random.fork_rng(devices=[]):
        model = _freeze(open_clip.create_model(spec.model, pretrained=None, precision=spec.precision, device=device))
    size = open_clip.get_model_preprocess_cfg(model)["size"]
    pixels = torch.zeros(images, 3, *((size, size) if isinstance(size, int) else size), device=device)
    pixels = pixels.to(ENCODER_DTYPES[spec.precision], memory_format=torch.channels_last)
    seconds = []
    for _ in range(3):  # the first pass warms up; item() waits for the device
        started = time.perf_counter()
        features = model.encode_image(pixels)
        features.sum().item()
        seconds.append(time.perf_counter() - started)
    return min(seconds) / images, features.shape[-1]
