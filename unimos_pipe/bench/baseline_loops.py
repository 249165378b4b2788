"""Loops to compare stage one with, one image after the other: the one people write, and one with torch's own means."""

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
    """One image after the other through open_clip's own transform."""

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
    """The loop people write: open_clip's fp32 model as it comes, a DataLoader of batches of 64 without workers.

    Args:
        model, transform: from :func:`unimos_pipe.extract.encoder.create_open_clip_model`, on ``device``.
    Returns:
        (n, D) unit-norm float32 features of the manifest's rows, and images per second.
    """
    loader = DataLoader(_ImageDataset(manifest, transform), BATCH_SIZE)
    return _encode(model.eval(), loader.__iter__, device)


def tuned_model(model: torch.nn.Module) -> torch.nn.Module:
    """A copy of open_clip's model with its convolutions' weights laid out channels last."""
    return copy.deepcopy(model).eval().to(memory_format=torch.channels_last)


@torch.inference_mode()
def tuned_loop(
    model: torch.nn.Module, transform: Callable, device: torch.device, manifest: Manifest
) -> tuple[torch.Tensor, float]:
    """The loop of those who know torch: channels last, autocast to 16 bits where the device has them, two workers.

    Args:
        model: from :func:`tuned_model`; the others and what is returned as in :func:`simple_loop`.
    """
    half = native_half_precision(device)
    loader = DataLoader(_ImageDataset(manifest, transform), BATCH_SIZE, num_workers=TUNED_WORKERS)
    autocast = torch.autocast(device.type, ENCODER_DTYPES.get(half), enabled=half is not None)
    with autocast, ThreadPoolExecutor(1) as starter:  # in a main thread the loader would leave a signal handler behind
        return _encode(model, starter.submit(iter, loader).result, device, memory_format=torch.channels_last)


def _encode(
    model: torch.nn.Module, start: Callable[[], Iterator], device: torch.device, **form: torch.memory_format
) -> tuple[torch.Tensor, float]:
    """(n, D) unit-norm float32 features of the batches that ``start`` begins to read, and images per second."""
    started = time.perf_counter()
    features = torch.cat([model.encode_image(images.to(device, **form)).cpu() for images in start()])
    rate = len(features) / (time.perf_counter() - started)
    return F.normalize(features.float(), dim=-1), rate
