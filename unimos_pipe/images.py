"""From image files to the encoder's input, in worker processes; a bad file is named, never guessed at."""

import contextlib
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.utils.data import DataLoader, Dataset

from unimos_pipe.errors import RunError, listing

DECODE_SECONDS = 60  # an image that takes longer is a bad one
STALL_SECONDS = 600  # without a batch: a decoder hangs where no signal reaches it

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
            with _at_most(DECODE_SECONDS):
                return row, self.preprocess(decode(self.root / self.paths[row]))
        except Exception as error:  # any decoder may raise anything; the row carries it to the caller
            return row, reason_of(error, self.root / self.paths[row])


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in a block that takes longer, between two calls of the decoder."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only a main thread gets signals; a decoder inside one C call is caught by the loader's own limit
        return

    def stop(*_):
        raise TimeoutError(f"not decoded after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _collate(rows):
    good = [(row, image) for row, image in rows if not isinstance(image, str)]
    bad = [(row, image) for row, image in rows if isinstance(image, str)]
    pixels = torch.stack([image for _, image in good]) if good else None
    return [row for row, _ in good], pixels, bad


def _yield_cores(worker: int) -> None:
    """Decode in what the encoder's threads leave free: they work in step, and one that waits stops them all."""
    os.nice(19)


def read_batches(
    root: Path,
    paths: Sequence[str],
    batches: Sequence[Sequence[int]],
    preprocess: Callable,
    workers: int,
    *,
    on_gpu: bool = False,
) -> Iterator[tuple[list[int], torch.Tensor | None, list[tuple[int, str]]]]:
    """Decode and preprocess batches of rows, in order, at most two batches per worker ahead of the consumer.

    Args:
        root: folder below which ``paths`` lie.
        paths: (n,) POSIX paths.
        batches: row numbers per batch.
        preprocess: PIL image -> (H, W, 3) uint8 tensor.
        workers: worker processes; 0 decodes in this one.
        on_gpu: the batches go to a GPU: give them in page-locked memory (torch reuses the buffers), and let the
            workers compete for the cores. Otherwise the encoder needs the cores, and the workers come second.
    Yields:
        (good rows, (len(good), H, W, 3) uint8 pixels or None, [(bad row, reason)]) per batch.
    Raises:
        RunError: a worker died, or a file kept a decoder busy beyond reach; names the batch's files.
    """
    loader = DataLoader(
        _Rows(root, paths, preprocess),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=on_gpu,
        prefetch_factor=2 if workers else None,
        worker_init_fn=None if on_gpu else _yield_cores,
        timeout=STALL_SECONDS if workers else 0,
    )
    stream = iter(loader)
    for rows in batches:
        try:
            batch = next(stream)
        except RuntimeError as error:
            if "DataLoader" not in str(error):
                raise
            raise RunError(
                f"the decoder hung or crashed in {root}, in or just after {listing([paths[row] for row in rows], 3)} "
                "(or memory ran out). Finished shards are kept; remove the file, or see it fail with --workers 0"
            ) from None
        yield batch


def readable_sample(files: Sequence[Path], preprocess: Callable) -> torch.Tensor | None:
    """The pixels of those files that can be read, (n, H, W, 3) uint8, or None if none can."""
    rows = _Rows(Path(), [str(path) for path in files], preprocess)
    return _collate([rows[row] for row in range(len(files))])[1]
