"""The frozen CLIP encoders behind a small interface: images and sentences in, unit-norm features out."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transform import MaybeConvertMode
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor, v2

from unimos_pipe.base.atomic_io import file_sha256
from unimos_pipe.base.device import copy_to_cpu_async, cpu_has_bf16
from unimos_pipe.base.errors import InputError, join_names
from unimos_pipe.base.malloc import tune_malloc
from unimos_pipe.base.method_config import EncoderSpec
from unimos_pipe.cache.encoder_identity import EncoderIdentity, is_weights_name
from unimos_pipe.data.image_decoding import DECODING_WARNINGS, Picture, image_from_array
from unimos_pipe.extract.image_loader import load_sample
from unimos_pipe.extract.jpeg_decoding import decoder_name
from unimos_pipe.extract.load_weights import load_weights
from unimos_pipe.extract.prompt_checks import tokenize_checked
from unimos_pipe.extract.tokenizer import load_tokenizer
from unimos_pipe.extract.weights import EMBEDDED, check_activation, find_weights, preprocessing, quiet_logging

CACHED_PIXELS = 8 * 224 * 224
ENCODER_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class ClipEncoder:
    """A frozen open_clip model in evaluation mode with its own evaluation preprocessing."""

    def __init__(self, spec: EncoderSpec, device: torch.device):
        """Load the model of a spec whose precision is settled.

        Raises:
            InputError: unknown model or tag, weights missing or unreachable, weights of another architecture, or an
                activation that does not match the weights.
        """
        open_clip.add_model_config(EMBEDDED)
        if not is_weights_name(spec.model) and spec.model not in open_clip.list_models():
            similar = [name for name in open_clip.list_models() if name.lower().startswith(spec.model[:4].lower())]
            raise InputError(f"open_clip has no model {spec.model!r}; close: {join_names(similar, 12)}")
        weights = find_weights(spec)
        sha256 = file_sha256(weights)
        config = _read_model_config(spec.model)
        activation = "QuickGELU" if config.get("quick_gelu") else "GELU"
        check_activation(spec, weights, sha256, activation)
        self.tokenizer = load_tokenizer(spec.model, config["text_cfg"])
        model, transform = create_open_clip_model(spec, weights, device)
        if device.type == "cpu":
            tune_malloc()
        self.model = _freeze(model)
        self.device = device
        self.dtype = ENCODER_DTYPES[spec.precision]
        self.preprocess = ResizeCrop(transform)
        self.logit_scale = native_logit_scale(model)
        self.value_range = _scale_and_shift(transform.transforms[-1], device)
        shape = open_clip.get_model_preprocess_cfg(self.model)
        preprocessing = {**shape, "decoder": decoder_name(), "resizer": self.preprocess.resizer}
        self.identity = EncoderIdentity(
            sha256, spec.model, activation, json.dumps(preprocessing, sort_keys=True), spec.precision
        )

    def encode_images(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, H, W, 3) uint8 pixels as ``preprocess`` makes them -> (n, D) float32 unit-norm features on the CPU."""
        return self.start_encoding(pixels)()

    @torch.inference_mode()
    def start_encoding(self, pixels: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Like :meth:`encode_images`; what is given back waits for the features and returns them.

        A GPU works on meanwhile, and reads ``pixels``, which must stay as they are until the features are there.
        """
        features = self.forward(self.scale_pixels(pixels.to(self.device, non_blocking=True)))
        return copy_to_cpu_async(F.normalize(features.float(), dim=-1))

    @torch.inference_mode()
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, 3, H, W) the encoder's input -> (n, D) features as the model gives them, on the device.

        On a CPU a few images at a time, so that what passes between layers stays in its cache (RN50 in bf16: 71
        images/s by eights, 49 by 64).
        """
        count, _, height, width = inputs.shape
        if self.device.type == "cpu":
            count = max(1, CACHED_PIXELS // (height * width))
        return torch.cat([self.model.encode_image(part) for part in inputs.split(count)])

    @torch.inference_mode()
    def scale_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, H, W, 3) uint8 on the device -> (n, 3, H, W) the encoder's input, channels last in memory.

        CLIP's (x / 255 - mean) / std in float32, in one pass over each row of pixels. On a CPU a few images at a time,
        so that the float32 values stay in its cache (58 ms against 5 ms for 64 images).
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
        """n sentences -> (n, D) float32 unit-norm features on the CPU. Raises InputError if one is too long."""
        tokens = tokenize_checked(self.tokenizer, sentences).to(self.device)
        parts = [self.model.encode_text(part).float() for part in tokens.split(256)]
        return F.normalize(torch.cat(parts), dim=-1).cpu()


def create_open_clip_model(spec: EncoderSpec, weights: Path, device: torch.device) -> tuple[torch.nn.Module, Compose]:
    """open_clip's model and evaluation transform as they come. Raises InputError if the weights do not fit."""
    preprocessing_options = {f"image_{key}": value for key, value in preprocessing(spec).items()}
    with quiet_logging():
        try:
            model, _, transform = open_clip.create_model_and_transforms(
                spec.model,
                load_weights=False,  # they come from the hashed file itself
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
    """1/T of a model trained with a bias beside it, as SigLIP's kin are, to two decimals; None for CLIP's.

    CLIP's kin learn theirs up to a bound of 100, which METHOD.md (section 1) fixes for all of them.
    """
    if getattr(model, "logit_bias", None) is None:
        return None
    return round(float(model.logit_scale.detach().float().exp()), 2)


def _freeze(model: torch.nn.Module) -> torch.nn.Module:
    """A model for inference alone, a ResNet in the form that computes fastest."""
    model = model.eval().requires_grad_(False)
    if any(module.training for module in model.modules()):
        raise AssertionError("an encoder module stayed in training mode")
    if isinstance(model.visual, ModifiedResNet):
        fold_batch_norms(model.visual)
        model.visual.to(memory_format=torch.channels_last)
    return model


def fold_batch_norms(net: ModifiedResNet) -> None:
    """Fold each BatchNorm of a frozen ResNet into the convolution before it: fewer passes, the same function."""
    for module in list(net.modules()):
        for (conv_name, conv), (norm_name, norm) in pairwise(module.named_children()):
            if isinstance(conv, torch.nn.Conv2d) and isinstance(norm, torch.nn.BatchNorm2d):
                module.register_module(conv_name, fuse_conv_bn_eval(conv, norm))
                module.register_module(norm_name, torch.nn.Identity())


class ResizeCrop:
    """The part of CLIP's evaluation transform that comes before the scaling of values: resize (bicubic) and crop.

    On uint8 tensors torchvision computes what PIL does in a third of the time: of the values of real photographs 0.3%
    differ, by 2 at most. Where there are other steps than these two, PIL does them; ``resizer`` says who did, for cache
    keys. What :meth:`ClipEncoder.scale` does is left to the device.
    """

    def __init__(self, transform: Compose):
        """``transform`` is open_clip's evaluation transform: geometry, ToTensor, Normalize."""
        *geometry, to_tensor, normalize = transform.transforms
        if not (isinstance(to_tensor, ToTensor) and isinstance(normalize, Normalize)):
            raise AssertionError(f"open_clip's transform has another form: {transform}")
        self.transform = transform
        self.on_picture, self.on_tensor, self.resizer = geometry, [], "PIL"
        if all(isinstance(step, Resize | CenterCrop | MaybeConvertMode) for step in geometry):
            resize = [v2.Resize(step.size, step.interpolation) for step in geometry if isinstance(step, Resize)]
            crop = [step for step in geometry if isinstance(step, CenterCrop)]
            self.on_picture, self.on_tensor, self.resizer = [], resize + crop, "torchvision, on uint8"

    def __call__(self, image: np.ndarray | Picture) -> torch.Tensor:
        """An RGB image of any size, as (H, W, 3) uint8 or as PIL has it -> (H, W, 3) uint8."""
        if self.on_picture:
            image = image_from_array(np.asarray(image))
        for step in self.on_picture:
            image = step(image)
        with DECODING_WARNINGS:  # torch warns that PIL's memory may not be written to
            pixels = torch.from_numpy(np.asarray(image)).permute(2, 0, 1)
        for step in self.on_tensor:
            pixels = step(pixels)
        return pixels.permute(1, 2, 0)


def _scale_and_shift(normalize: Normalize, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and shift, each (3,) float32, that take 0..255 to the encoder's input values."""
    mean = torch.tensor(normalize.mean, dtype=torch.float64)
    std = torch.tensor(normalize.std, dtype=torch.float64)
    return (1 / (255 * std)).float().to(device), (-mean / std).float().to(device)


@dataclass(frozen=True)
class PrecisionCheck:
    """Why an encoder works in its precision: how close a sample's 16-bit features came to fp32's."""

    precision: str
    device: str
    candidate: str  # the 16-bit precision that was tried
    smallest_cosine: float  # of the sample's features, to fp32's
    images: int  # of the sample

    def __str__(self) -> str:
        return (
            f"precision {self.precision}: smallest cosine of {self.candidate} features to fp32's "
            f"{self.smallest_cosine:.5f} on {self.images} image(s)"
        )


def load_encoder(
    spec: EncoderSpec, device: torch.device, sample: Sequence[Path]
) -> tuple[ClipEncoder, PrecisionCheck | None]:
    """The encoder of a spec; precision ``auto`` becomes the fastest that keeps the features of fp32.

    Half precision is taken where the hardware computes it natively (fp16 on CUDA, bf16 on a CPU with AVX512-BF16 or
    AMX) and every feature of the sample stays within a cosine of :data:`MIN_COSINE` of fp32's.

    Args:
        sample: image files that are encoded both ways; unreadable ones are left out.
    Returns:
        The encoder, and what was found where it was tried both ways.
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
    """An open_clip model with random weights from torch's global generator, for benchmarks.

    Raises:
        InputError: open_clip has no such model.
    """
    open_clip.add_model_config(EMBEDDED)
    if name not in open_clip.list_models():
        raise InputError(f"open_clip has no model {name!r}")
    with quiet_logging():
        return open_clip.create_model(name)


def native_half_precision(device: torch.device) -> str | None:
    """The 16-bit precision that a device's own instructions compute in, or None."""
    if device.type == "cuda":
        return "fp16"
    return "bf16" if device.type == "cpu" and cpu_has_bf16() else None


def _read_model_config(model: str) -> dict:
    """A model's configuration by name or schema. Raises InputError if a folder's cannot be read."""
    try:
        config = open_clip.get_model_config(model)
    except (OSError, ValueError) as error:
        raise InputError(f"model {model}: its configuration cannot be read: {error}") from None
    if not isinstance(config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
        raise InputError(f"model {model}: its configuration lacks embed_dim, vision_cfg or text_cfg")
    return config


@torch.inference_mode()
def measure_encoder_speed(spec: EncoderSpec, device: torch.device, images: int = 4) -> tuple[float, int]:
    """Seconds per image of an architecture here, decoding left out, and its embedding size D.

    The weights are random, which compute as long as trained ones, so nothing needs to be at hand. Of precision ``auto``
    the device's own 16 bits are taken, where it has them.
    """
    if spec.precision == "auto":
        spec = replace(spec, precision=native_half_precision(device) or "fp32")
    open_clip.add_model_config(EMBEDDED)
    with quiet_logging(), torch.random.fork_rng(devices=[]):
        model = _freeze(open_clip.create_model(spec.model, pretrained=None, precision=spec.precision, device=device))
    size = open_clip.get_model_preprocess_cfg(model)["size"]
    pixels = torch.zeros(images, 3, *((size, size) if isinstance(size, int) else size), device=device)
    pixels = pixels.to(ENCODER_DTYPES[spec.precision])
    seconds = []
    for _ in range(3):  # the first one warms up; reading a value waits for the device
        started = time.perf_counter()
        features = model.encode_image(pixels)
        features.sum().item()
        seconds.append(time.perf_counter() - started)
    return min(seconds) / images, features.shape[-1]
