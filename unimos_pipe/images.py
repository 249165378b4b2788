"""From image files to the encoder's input, in worker processes; a bad file is named, never guessed at."""

import contextlib
import faulthandler
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from unimos_pipe.decode import Picture, decode, reason_of
from unimos_pipe.errors import RunError, listing

DECODE_SECONDS = 60  # an image that takes longer is a bad one
HANG_SECONDS = 120  # a decoder that no signal reaches: its worker ends itself


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
            with _at_most(DECODE_SECONDS), _or_worker_ends(HANG_SECONDS):
                return row, self.preprocess(decode(source))
        except Exception as error:  # any decoder may raise anything; the row carries it to the caller
            return row, reason_of(error, source)


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in a block that takes longer, between two calls of the decoder."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only a main thread gets signals
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


@contextlib.contextmanager
def _or_worker_ends(seconds: float) -> Iterator[None]:
    """End a worker process whose block takes longer, also inside one call of C code that holds on to everything."""
    if get_worker_info() is None:
        yield
        return
    with Path(os.devnull).open("w") as nowhere:
        faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


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
    paths: Sequence[str | Path | Picture],
    batches: Sequence[Sequence[int]],
    preprocess: Callable,
    workers: int,
    *,
    on_gpu: bool = False,
) -> Iterator[tuple[list[int], torch.Tensor | None, list[tuple[int, str]]]]:
    """Decode and preprocess batches of rows, in order, at most two batches per worker ahead of the consumer.

    Args:
        root: folder below which ``paths`` lie.
        paths: (n,) POSIX paths, or images that are open already.
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
    )
    with ThreadPoolExecutor(1) as aside:
        # Started by a main thread, the loader would report a worker's death by a signal, in whatever runs just then;
        # like this it does so here, within 5 seconds.
        stream = aside.submit(iter, loader).result()
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
