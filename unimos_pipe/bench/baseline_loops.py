"""Baseline encoding loops for stage one: a simple one, and one tuned with torch's features."""

import copy
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from unimos_pipe.data.image_decoding import decode
from unimos_pipe.data.manifest import Manifest
from unimos_pipe.extract.encoder import ENCODER_DTYPES, native_half_precision

BATCH_SIZE = 64
TUNED_WORKERS = 2


class _ImageDataset(Dataset):
    """Images of a manifest through open_clip's transform."""

    def __init__(self, manifest: Manifest, transform: Callable):
        self.manifest, self.transform = manifest, transform

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.transform(decode(self.manifest.root / self.manifest.paths[row]))


@torch.inference_mode()
def simple_loop(
    model: torch.nn.Module, transform: Callable, device: torch.device, manifest: Manifest
) -> tuple[torch.Tensor, float]:
    """Encode with open_clip's fp32 model and a DataLoader of batches of 64 without workers.

    Args:
        model, transform: from :func:`unimos_pipe.extract.encoder.create_open_clip_model`, on ``device``.
    Returns:
        (n, D) unit-norm float32 features of the manifest's rows, and images per second.
    """
    loader = DataLoader(_ImageDataset(manifest, transform), BATCH_SIZE)
    return _encode(model.eval(), loader.__iter__, device)


def tuned_model(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of open_clip's model with channels-last weights."""
    return copy.deepcopy(model).eval().to(memory_format=torch.channels_last)


@torch.inference_mode()
def tuned_loop(
    model: torch.nn.Module, transform: Callable, device: torch.device, manifest: Manifest
) -> tuple[torch.Tensor, float]:
    """Encode with channels-last weights, autocast to the native 16-bit precision if any, and two workers.

    Args:
        model: from :func:`tuned_model`. Other arguments and return value as in :func:`simple_loop`.
    """
    half = native_half_precision(device)
    loader = DataLoader(_ImageDataset(manifest, transform), BATCH_SIZE, num_workers=TUNED_WORKERS)
    autocast = torch.autocast(device.type, ENCODER_DTYPES.get(half), enabled=half is not None)
    with autocast, ThreadPoolExecutor(1) as starter:  # started by the main thread, the loader installs a signal handler
        return _encode(model, starter.submit(iter, loader).result, device, memory_format=torch.channels_last)


def _encode(
    model: torch.nn.Module, start: Callable[[], Iterator], device: torch.device, **form: torch.memory_format
) -> tuple[torch.Tensor, float]:
    """Return (n, D) unit-norm float32 features of the batches of ``start()``, and images per second."""
    started = time.perf_counter()
    features = torch.cat([model.encode_image(images.to(device, **form)).cpu() for images in start()])
    rate = len(features) / (time.perf_counter() - started)
    return F.normalize(features.float(), dim=-1), rate
