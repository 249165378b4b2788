"""From image files to the encoder's input, in worker processes; a bad file is named, never guessed at."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

DECODER = "PIL, EXIF orientation applied, alpha on white, 16 bit scaled to 8, first frame"


def decode(path: Path) -> Image.Image:
    """Read an image the way a viewer shows it, as RGB.

    Raises:
        OSError, SyntaxError, ValueError: whatever PIL finds wrong with the file, decompression bombs included.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            image.load()
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I") or image.mode == "F":
                return _eight_bit(image)
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            return image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image, dtype=np.float64)
    scale = 257.0 if values.max(initial=0) > 255 else 1.0
    return Image.fromarray(np.clip(values / scale, 0, 255).round().astype(np.uint8)).convert("RGB")


class _Rows(Dataset):
    """Rows of one folder as (row, tensor) or (row, what is wrong with the file)."""

    def __init__(self, root: Path, paths: Sequence[str], preprocess: Callable):
        self.root, self.paths, self.preprocess = root, paths, preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int):
        try:
            return row, self.preprocess(decode(self.root / self.paths[row]))
        except Exception as error:  # any decoder may raise anything; the row carries it to the caller
            reason = str(error).replace(str(self.root / self.paths[row]), "the file")
            return row, f"{type(error).__name__}: {reason}"


def _collate(rows):
    good = [(row, image) for row, image in rows if not isinstance(image, str)]
    bad = [(row, image) for row, image in rows if isinstance(image, str)]
    pixels = torch.stack([image for _, image in good]) if good else None
    return [row for row, _ in good], pixels, bad


def read_batches(
    root: Path,
    paths: Sequence[str],
    batches: Sequence[Sequence[int]],
    preprocess: Callable,
    workers: int,
    pin_memory: bool = False,
) -> Iterator[tuple[list[int], torch.Tensor | None, list[tuple[int, str]]]]:
    """Decode and preprocess batches of rows, in order, ahead of the consumer.

    Args:
        root: folder below which ``paths`` lie.
        paths: (n,) POSIX paths.
        batches: row numbers per batch.
        preprocess: PIL image -> (3, H, W) float tensor.
        workers: worker processes; 0 decodes in this one.
        pin_memory: page-locked batches, for copies to CUDA.
    Yields:
        (good rows, (len(good), 3, H, W) pixels or None, [(bad row, reason)]) per batch.
    """
    yield from DataLoader(
        _Rows(root, paths, preprocess),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
        prefetch_factor=2 if workers else None,
    )
