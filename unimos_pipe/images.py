"""From image files to the encoder's input, in worker processes; a bad file is named, never guessed at."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.utils.data import DataLoader, Dataset

DECODER = "PIL, EXIF orientation applied, alpha on white, 16 bit and float scaled to 8, first frame"


def decode(path: Path) -> Image.Image:
    """Read an image the way a viewer shows it, as RGB: by its contents, whatever its name says.

    Raises:
        OSError, SyntaxError, ValueError: whatever PIL finds wrong with the file, decompression bombs included.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            image.load()
            image = _upright(image)
            if image.mode.startswith("I") or image.mode == "F":
                return _eight_bit(image)
            if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says; an EXIF block that cannot be read turns nothing."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF raises anything from struct.error to KeyError, and viewers pass over it
        return image


def _eight_bit(image: Image.Image) -> Image.Image:
    """Grey values of more than 8 bits as RGB: "I;16" is 16 bits wide, 32-bit and float images as their range says."""
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("pixel values that are not finite")
    top = values.max(initial=0)
    if image.mode == "F" and top <= 1:
        values = values * 255
    elif image.mode.startswith("I;16") or top > 255:
        values = values / 257
    return Image.fromarray(np.clip(values, 0, 255).round().astype(np.uint8)).convert("RGB")


def reason_of(error: Exception, path: Path) -> str:
    """What a decoder raised about a file, in a few words that do not repeat its path."""
    if isinstance(error, UnidentifiedImageError):
        return "an empty file" if path.stat().st_size == 0 else "not an image of a known format"
    return f"{type(error).__name__}: {' '.join(str(error).split()).replace(str(path), 'the file')}"


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
            return row, reason_of(error, self.root / self.paths[row])


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
