"""The loop people write, to compare stage one with: open_clip as it comes, one image after the other."""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from unimos_pipe.data.manifest import Manifest
from unimos_pipe.extract.images import decode

PLAIN_BATCH = 64


class _PlainImages(Dataset):
    """One image after the other through open_clip's own transform."""

    def __init__(self, manifest: Manifest, transform: Callable):
        self.manifest, self.transform = manifest, transform

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.transform(decode(self.manifest.root / self.manifest.paths[row]))


@torch.inference_mode()
def plain_loop(
    model: torch.nn.Module, transform: Callable, device: torch.device, manifest: Manifest
) -> tuple[torch.Tensor, float]:
    """The loop people write: open_clip's fp32 model as it comes, a DataLoader of batches of 64 without workers.

    Args:
        model, transform: from :func:`unimos_pipe.extract.encoder.plain_model`, on ``device``.
    Returns:
        (n, D) unit-norm float32 features of the manifest's rows, and images per second.
    """
    model.eval()
    loader = DataLoader(_PlainImages(manifest, transform), PLAIN_BATCH)
    started = time.perf_counter()
    features = torch.cat([model.encode_image(images.to(device)).cpu() for images in loader])
    rate = len(manifest) / (time.perf_counter() - started)
    return F.normalize(features, dim=-1), rate
