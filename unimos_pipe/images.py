"""From image files to the encoder's input, in worker processes; a bad file is named, never guessed at."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from unimos_pipe.decode import Picture, decode, reason_of


class _Rows(Dataset):
    """Rows of one folder as (row, tensor) or (row, what is wrong with the file)."""

    def __init__(self, root: Path, paths: Sequence[str | Path | Picture], preprocess: Callable):
        self.root, self.paths, self.preprocess = root, paths, preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int):
        entry = self.paths[row]
        source = entry if isinstance(entry, Picture) else self.root / entry
        try:
            return row, self.preprocess(decode(source))
        except Exception as error:  # any decoder may raise anything; the row carries it to the caller
            return row, reason_of(error, source)


def _collate(rows):
    good = [(row, image) for row, image in rows if not isinstance(image, str)]
    bad = [(row, image) for row, image in rows if isinstance(image, str)]
    pixels = torch.stack([image for _, image in good]) if good else None
    return [row for row, _ in good], pixels, bad


def read_batches(
    root: Path,
    paths: Sequence[str | Path | Picture],
    batches: Sequence[Sequence[int]],
    preprocess: Callable,
    workers: int,
    pin_memory: bool = False,
) -> Iterator[tuple[list[int], torch.Tensor | None, list[tuple[int, str]]]]:
    """Decode and preprocess batches of rows, in order, ahead of the consumer.

    Args:
        root: folder below which ``paths`` lie.
        paths: (n,) POSIX paths, or images that are open already.
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
