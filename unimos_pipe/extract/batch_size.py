"""Automatic choice of the batch size."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from unimos_pipe.base.errors import Argument, InputError
from unimos_pipe.data.manifest import Manifest
from unimos_pipe.extract.encoder import ClipEncoder

SAMPLE_IMAGES = 64  # images for the choice of precision and batch size


def sample_files(manifests: Sequence[Manifest]) -> list[Path]:
    """Return at most :data:`SAMPLE_IMAGES` evenly spaced images of all domains."""
    files = [manifest.root / path for manifest in manifests for path in manifest.paths]
    return files[:: max(1, len(files) // SAMPLE_IMAGES)][:SAMPLE_IMAGES]


def measure_batch_size(encoder: ClipEncoder, sample: torch.Tensor | None) -> tuple[int, dict[int, float]]:
    """Return the fastest batch size on this device, and the images per second of every size tried.

    Args:
        sample: (n, H, W, 3) uint8 pixels, or None if no image could be read.
    Raises:
        InputError: no sample.
    """
    if sample is None:
        raise InputError((Argument("batch_size"), " auto: none of the images tried can be read; give a number"))
    rates: dict[int, float] = {}
    return find_batch_size(encoder, sample, rates.__setitem__), rates


def find_batch_size(encoder: ClipEncoder, sample: torch.Tensor, on_size: Callable[[int, float], None]) -> int:
    """Return the batch size beyond which the next one is less than 3% faster or does not fit the device.

    Args:
        sample: (n, H, W, 3) uint8 pixels, repeated to the sizes tried: 16, 32, ... up to 128 on a CPU, 1,024 on a GPU.
        on_size: called with every size tried and its images per second.
    """
    best, best_rate = 16, 0.0
    largest = 128 if encoder.device.type == "cpu" else 1024
    while (size := best if best_rate == 0 else best * 2) <= largest:
        pixels = torch.cat([sample] * -(-size // len(sample)))[:size]
        try:
            encoder.encode_images(pixels)
            rate = size / min(_seconds(lambda pixels=pixels: encoder.encode_images(pixels)) for _ in range(2))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        on_size(size, rate)
        if rate < 1.03 * best_rate:
            break
        best, best_rate = size, rate
    return best


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
