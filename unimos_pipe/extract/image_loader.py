"""From image files to the encoder's input, in worker processes; a bad file is named, never guessed at."""

import contextlib
import faulthandler
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from unimos_pipe.base.device import count_usable_cores
from unimos_pipe.base.errors import ExecutionError, ReadError, UnimosPipeError, join_names
from unimos_pipe.base.fork_pool import reopen_std_streams
from unimos_pipe.base.malloc import trim_malloc, tune_malloc
from unimos_pipe.base.time_limit import time_limit
from unimos_pipe.base.waits import stopped_processes, told_wait
from unimos_pipe.data.image_decoding import DECODE_SECONDS, Picture, describe_error
from unimos_pipe.extract.jpeg_decoding import read_pixels

HANG_SECONDS = 300  # a batch whose decoder no signal reaches: its worker ends itself
NICENESS = 5  # of decoders beside a CPU's encoder
PREFETCH_BATCHES = 2  # batches a worker may be ahead of the consumer
CONSUMER_BATCHES = 2  # batches in the consumer's hands: one a GPU may still read, and the next


class _DecodedBatches(Dataset):
    """Batches of rows of one folder, decoded into memory that is used again and again."""

    def __init__(self, root: Path, paths: Sequence, batches: Sequence[Sequence[int]], preprocess: Callable, slots: int):
        self.root, self.paths, self.batches, self.preprocess = root, paths, batches, preprocess
        shape = preprocess(np.zeros((1, 1, 3), np.uint8)).shape
        self.slots = torch.empty(slots, max(map(len, batches), default=0), *shape, dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> tuple[list[int], list[tuple[int, str]], UnimosPipeError | None]:
        """Fill a batch's slot.

        Returns:
            Its good rows, whose pixels come first; (bad row, what is wrong with it); and why the batch could not be
            read to its end, for a reason that is no image's fault.
        """
        slot = self.slot(number)
        good, bad = [], []
        with _worker_watchdog(HANG_SECONDS):
            for row in self.batches[number]:
                entry = self.paths[row]
                source = self.root / entry if isinstance(entry, str | Path) else entry
                try:
                    with time_limit(DECODE_SECONDS, f"not decoded after {DECODE_SECONDS} s"):
                        slot[len(good)] = self.preprocess(read_pixels(source))
                    good.append(row)
                except MemoryError:
                    return good, bad, ExecutionError(f"out of memory at {source}. Finished shards are kept")
                except Exception as error:  # any decoder may raise anything
                    if isinstance(error, ReadError) and not error.lasting:
                        return good, bad, error
                    bad.append((row, describe_error(error, source)))
        return good, bad, None

    def slot(self, number: int) -> torch.Tensor:
        """Where a batch's pixels lie."""
        return self.slots[number % len(self.slots)]


@contextlib.contextmanager
def _worker_watchdog(seconds: float) -> Iterator[None]:
    """End a worker process whose block takes longer, also inside one call of C code that holds on to everything."""
    if get_worker_info() is None:
        yield
        return
    with Path(os.devnull).open("w") as devnull:
        faulthandler.dump_traceback_later(seconds, exit=True, file=devnull)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def _init_worker(worker: int) -> None:
    """Begin as a decoder. The 36 MB of 12 megapixels take twice as long in memory that is new for every photograph."""
    tune_malloc(blocks_of_any_size=True)
    if sys.platform == "linux":  # where it was forked
        reopen_std_streams()


def _init_nice_worker(worker: int) -> None:
    """Let the encoder's threads go first: they work in step, and one that waits stops them all.

    No more than a few steps of niceness, so that other programs still leave the decoders their share.
    """
    _init_worker(worker)
    if hasattr(os, "nice"):
        os.nice(NICENESS)


@contextlib.contextmanager
def _pinned(memory: torch.Tensor) -> Iterator[None]:
    """Let a GPU copy from memory that processes share; where the driver refuses, copies are only slower."""
    cudart = torch.cuda.cudart()
    status = cudart.cudaHostRegister(memory.data_ptr(), memory.numel(), 0)
    try:
        yield
    finally:
        if status == cudart.cudaError.success:
            cudart.cudaHostUnregister(memory.data_ptr())


def resolve_worker_count(requested: int | None, device: torch.device) -> int:
    """Worker processes: the wanted number, else 2 beside a CPU's encoder and one per core beside a GPU's."""
    if requested is not None:
        return requested
    return 2 if device.type == "cpu" else count_usable_cores()


def read_batches(
    root: Path,
    paths: Sequence[str | Path | Picture | bytes],
    batches: Sequence[Sequence[int]],
    preprocess: Callable,
    workers: int,
    *,
    on_gpu: bool = False,
) -> Iterator[tuple[list[int], torch.Tensor, list[tuple[int, str]]]]:
    """Decode and preprocess batches of rows, in order, at most two batches per worker ahead of the consumer.

    Args:
        root: folder below which ``paths`` lie.
        paths: (n,) POSIX paths, images that are open already, or the bytes of image files.
        batches: row numbers per batch.
        preprocess: (H, W, 3) uint8 pixels of any size -> (H, W, 3) uint8 tensor of one size.
        workers: worker processes; 0 decodes in this one.
        on_gpu: the batches go to a GPU: give them in page-locked memory, and let the workers compete for the cores.
            Otherwise the encoder needs the cores, and the workers come second.
    Yields:
        (good rows, (len(good), H, W, 3) uint8 pixels, [(bad row, reason)]) per batch. The pixels' memory takes
        another batch as soon as the next but one is asked for.
    Raises:
        ExecutionError: a worker died, or a file kept a decoder busy beyond reach; names the batch's files.
        ReadError: a file that cannot be read for a reason that may pass.
    """
    data = _DecodedBatches(root, paths, batches, preprocess, PREFETCH_BATCHES * workers + CONSUMER_BATCHES)
    if workers:
        data.slots.share_memory_()
        trim_malloc()
    loader = DataLoader(
        data,
        batch_size=None,
        num_workers=workers,
        collate_fn=tuple,  # as it is
        prefetch_factor=PREFETCH_BATCHES if workers else None,
        worker_init_fn=_init_worker if on_gpu else _init_nice_worker,
    )
    with _pinned(data.slots) if on_gpu else contextlib.nullcontext():
        with ThreadPoolExecutor(1) as starter:
            # Started by a main thread, the loader would report a worker's death by a signal, in whatever runs just
            # then; like this it does so here, within 5 seconds.
            stream = starter.submit(iter, loader).result()
        for number, rows in enumerate(batches):
            try:
                with told_wait(lambda: stopped_processes(child.pid for child in multiprocessing.active_children())):
                    good, bad, failure = next(stream)
            except RuntimeError as error:
                if "DataLoader" not in str(error):
                    raise
                raise ExecutionError(
                    f"the decoder hung or crashed in {root}, in or just after "
                    f"{join_names([paths[row] for row in rows], 3)} "
                    "(or memory ran out). Finished shards are kept; remove the file, or see it fail with --workers 0"
                ) from None
            if failure:
                raise failure
            yield good, data.slot(number)[: len(good)], bad


def load_sample(files: Sequence[Path], preprocess: Callable) -> torch.Tensor | None:
    """The pixels of those files that can be read, (n, H, W, 3) uint8, or None if none can."""
    ((_, pixels, _),) = read_batches(Path(), list(files), [range(len(files))], preprocess, workers=0)
    return pixels if len(pixels) else None
