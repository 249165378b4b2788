"""Decoding and preprocessing of image files in worker processes; unreadable files are reported by name."""

import contextlib
import faulthandler
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from unimos_pipe.base.errors import Argument, ExecutionError, ReadError, UnimosPipeError, join_names
from unimos_pipe.base.fork_pool import count_usable_cores, reopen_std_streams
from unimos_pipe.base.malloc import trim_malloc, tune_malloc
from unimos_pipe.base.safe_open import DEFAULT_MAX_PIXELS
from unimos_pipe.base.time_limit import time_limit
from unimos_pipe.base.waits import stopped_processes, told_wait
from unimos_pipe.data.image_decoding import DECODE_SECONDS, UNIFORM_SPREAD, Picture, describe_error
from unimos_pipe.extract.encoder_protocol import BATCHES_IN_FLIGHT
from unimos_pipe.extract.jpeg_decoding import read_pixels

HANG_SECONDS = 300  # a worker exits if a batch takes longer, even inside C code
SLOW_SECONDS = 10  # of a wait for a batch, after which it is told of
NICENESS = 5  # of decoders that share the CPU with the encoder
PREFETCH_BATCHES = 2  # batches that a worker may be ahead of the consumer
SHARED_MEMORY = Path("/dev/shm")
CONSUMER_BATCHES = 2  # batches that the consumer holds: one that it may still read, and the next


class _Batch(NamedTuple):
    """A batch to decode: the number of its folder, the rows there, and the slot for their pixels."""

    folder: int
    rows: Sequence[int]
    slot: int


class _DecodedBatches(Dataset):
    """Batches of rows of some folders, decoded into reused memory."""

    def __init__(
        self,
        folders: Sequence[tuple[Path, Sequence]],
        preprocess: Callable,
        slots: int,
        batch_size: int,
        max_pixels: int,
    ):
        self.folders, self.preprocess, self.max_pixels = folders, preprocess, max_pixels
        shape = preprocess(np.zeros((1, 1, 3), np.uint8)).shape
        self.slots = torch.empty(slots, batch_size, *shape, dtype=torch.uint8)

    def __getitem__(
        self, batch: _Batch
    ) -> tuple[list[int], list[tuple[int, str]], UnimosPipeError | None, list[tuple[int, bool, str]]]:
        """Fill a batch's slot.

        Returns:
            Its good rows, whose pixels come first; (bad row, what is wrong with it); why the batch could not be read
            to its end, for a reason that is no image's fault; and the rows that ``on_look`` of
            :meth:`Decoders.read_batches` is told of.
        """
        slot, (root, paths) = self.slots[batch.slot], self.folders[batch.folder]
        good, bad, looks = [], [], []
        with _worker_watchdog(HANG_SECONDS):
            for row in batch.rows:
                entry = paths[row]
                source = root / entry if isinstance(entry, str | Path) else entry
                guessed: list[str] = []
                try:
                    with time_limit(DECODE_SECONDS, f"not decoded after {DECODE_SECONDS} s"):
                        pixels = self.preprocess(read_pixels(source, self.max_pixels, guessed.append))
                        slot[len(good)] = pixels
                    good.append(row)
                    low, high = pixels.reshape(-1, pixels.shape[-1]).aminmax(dim=0)
                    uniform = bool((high - low < UNIFORM_SPREAD).all())
                    if uniform or guessed:
                        looks.append((row, uniform, "".join(guessed)))
                except MemoryError:
                    return good, bad, ExecutionError(f"out of memory at {source}. Finished shards are kept"), looks
                except Exception as error:  # decoders raise any type
                    if isinstance(error, ReadError) and not error.lasting:
                        return good, bad, error, looks
                    bad.append((row, describe_error(error, source)))
        return good, bad, None, looks


@contextlib.contextmanager
def _worker_watchdog(seconds: float) -> Iterator[None]:
    """Exit a worker process whose block takes longer, even inside a single call of C code."""
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
    """Initialise a decoder process.

    malloc keeps freed memory: decoding 12 megapixels (36 MB) takes twice as long in newly mapped memory.
    """
    tune_malloc(blocks_of_any_size=True)
    if sys.platform == "linux":  # where workers are forked
        reopen_std_streams()


def _init_nice_worker(worker: int) -> None:
    """Initialise a decoder process that yields to the encoder's threads.

    These run in lockstep, so one that waits stops them all. The niceness is small, so that other programs leave the
    decoders their share.
    """
    _init_worker(worker)
    if hasattr(os, "nice"):
        os.nice(NICENESS)


@contextlib.contextmanager
def _pinned(memory: torch.Tensor) -> Iterator[None]:
    """Page-lock shared memory for copies to a GPU; without it copies are slower."""
    cudart = torch.cuda.cudart()
    status = cudart.cudaHostRegister(memory.data_ptr(), memory.numel(), 0)
    try:
        yield
    finally:
        if status == cudart.cudaError.success:
            cudart.cudaHostUnregister(memory.data_ptr())


def resolve_worker_count(requested: int | None, device: torch.device) -> int:
    """Return the number of decoder processes: as requested, else 2 for a CPU's encoder, one per core for a GPU's."""
    if requested is not None:
        return requested
    return 2 if device.type == "cpu" else count_usable_cores()


class Decoders:
    """Processes that decode and preprocess images. A context manager; its end ends them.

    The first batch starts them, and they stay for the other folders: a fork of a process of 2 GB takes 55 ms.
    """

    def __init__(
        self,
        folders: Sequence[tuple[Path, Sequence[str | Path | Picture | bytes]]],
        preprocess: Callable,
        batch_size: int,
        workers: int,
        *,
        on_gpu: bool = False,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ):
        """Allocate the memory of the pixels.

        Args:
            folders: a folder, and POSIX paths relative to it, opened images, or bytes of image files, of each of them.
            preprocess: function from (H, W, 3) uint8 pixels of any size to a (H, W, 3) uint8 tensor of one size.
            batch_size: the largest number of rows in a batch.
            workers: decoder processes, each at most two batches ahead; 0 decodes in this process.
            on_gpu: use page-locked memory and normal priority of the workers. Otherwise the workers yield the cores to
                the encoder.
            max_pixels: largest image that is read.
        Raises:
            ExecutionError: too little shared memory.
        """
        if multiprocessing.current_process().daemon:  # which may have no children
            workers = 0
        consumer_batches = BATCHES_IN_FLIGHT + 1 if on_gpu else CONSUMER_BATCHES
        slots = PREFETCH_BATCHES * workers + consumer_batches
        self.data = _DecodedBatches(folders, preprocess, slots, batch_size, max_pixels)
        if workers:
            _check_shared_memory(self.data.slots.nbytes)
            self.data.slots.share_memory_()
        self.batches: list[_Batch] = []  # of the current call
        self.is_started = False
        self.loader = DataLoader(
            self.data,
            sampler=self.batches,
            batch_size=None,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=tuple,  # no collation
            prefetch_factor=PREFETCH_BATCHES if workers else None,
            worker_init_fn=_init_worker if on_gpu else _init_nice_worker,
            # forked, whatever the caller's start method is: others import the caller's main module again
            multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        )
        self.page_locked = _pinned(self.data.slots) if on_gpu else contextlib.nullcontext()

    def __enter__(self) -> "Decoders":
        self.page_locked.__enter__()
        return self

    def __exit__(self, *exception) -> None:
        del self.loader  # ends its processes
        self.page_locked.__exit__(*exception)

    def read_batches(
        self,
        folder: int,
        batches: Sequence[Sequence[int]],
        on_look: Callable[[int, bool, str], None] = lambda row, uniform, guessed: None,
    ) -> Iterator[tuple[list[int], torch.Tensor, list[tuple[int, str]]]]:
        """Decode and preprocess batches of rows of a folder, in order. Ends an earlier call that is not at its end.

        Args:
            folder: its number.
            batches: row numbers per batch.
            on_look: called with the row of an image without contrast or with a guessed range of grey values, whether it
                is without contrast, and the range or ''.
        Yields:
            (readable rows, their (m, H, W, 3) uint8 pixels, [(unreadable row, reason)]) per batch. The memory of the
            pixels is reused when the next but one batch is requested (``on_gpu``: as many later as may be in flight),
            and by the next call.
        Raises:
            ExecutionError: a worker died or hung; names the batch's files.
            ReadError: a file that cannot be read for a reason that may pass.
        """
        slots, (root, paths) = self.data.slots, self.data.folders[folder]
        self.batches[:] = [_Batch(folder, rows, number % len(slots)) for number, rows in enumerate(batches)]
        stream = None
        for batch in self.batches:
            try:
                with told_wait(partial(_describe_wait, paths[batch.rows[0]], time.monotonic())):
                    stream = stream or self._start()
                    good, bad, failure, looks = next(stream)
            except RuntimeError as error:
                if "DataLoader" not in str(error):
                    raise
                raise _decoder_error(root, [paths[row] for row in batch.rows]) from None
            if failure:
                raise failure
            for look in looks:
                on_look(*look)
            yield good, slots[batch.slot, : len(good)], bad

    def _start(self) -> Iterator:
        """Return the loader's iterator over the current batches; start the processes if there are none yet."""
        if self.is_started:
            return iter(self.loader)
        self.is_started = True
        if self.loader.num_workers:
            trim_malloc()
        with ThreadPoolExecutor(1) as starter:
            # If the main thread starts the loader, a worker's death raises in an arbitrary place by a signal handler.
            # Started by another thread, the loader raises it where batches are awaited, within 5 seconds.
            return starter.submit(iter, self.loader).result()


def read_batches(
    root: Path,
    paths: Sequence[str | Path | Picture | bytes],
    batches: Sequence[Sequence[int]],
    preprocess: Callable,
    workers: int,
    *,
    on_gpu: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Iterator[tuple[list[int], torch.Tensor, list[tuple[int, str]]]]:
    """Decode batches of rows of one folder as :meth:`Decoders.read_batches` does, and end the processes."""
    size = max(map(len, batches), default=0)
    with Decoders([(root, paths)], preprocess, size, workers, on_gpu=on_gpu, max_pixels=max_pixels) as decoders:
        yield from decoders.read_batches(0, batches)


def _describe_wait(entry: str | Path | Picture | bytes, began: float) -> str:
    """Return what a wait for a batch is for, if it is told: stopped decoders, or images that take long."""
    if stopped := stopped_processes(child.pid for child in multiprocessing.active_children()):
        return stopped
    is_slow = time.monotonic() - began > SLOW_SECONDS and isinstance(entry, str | Path)
    return f"the decoders of images from {entry} on" if is_slow else ""


def _check_shared_memory(size: int) -> None:
    """Raise ExecutionError if the decoder processes' pixels do not fit into the shared memory that is free.

    Writing to memory beyond it would kill the process with a bus error. A container has 64 MB by default.
    """
    if not SHARED_MEMORY.is_dir():
        return
    status = os.statvfs(SHARED_MEMORY)
    free = status.f_bavail * status.f_frsize
    if size > free:
        raise ExecutionError(
            (
                f"the decoders need {size / 1e6:,.0f} MB of shared memory, {SHARED_MEMORY} has {free / 1e6:,.0f} MB "
                "free; decode in this process with ",
                Argument("workers", 0),
                ", take smaller batches or fewer workers, or start the container with more (docker's shm-size)",
            )
        )


def _decoder_error(root: Path, paths: Sequence[str | Path | Picture | bytes]) -> ExecutionError:
    """Return the error of a worker that died or hung on one of these paths."""
    return ExecutionError(
        (
            f"the decoder hung or crashed in {root}, in or just after {join_names(paths, 3)} (or memory ran out). "
            "Finished shards are kept; remove the file, or use ",
            Argument("workers", 0),
            f" to see its error{_guard_hint()}",
        )
    )


def _guard_hint() -> str:
    """Return a hint for scripts on systems whose worker processes import the main module."""
    if sys.platform == "linux" or multiprocessing.get_start_method() == "fork":
        return ""
    return ". A script that calls this must do so below if __name__ == '__main__':"


def load_sample(files: Sequence[Path], preprocess: Callable) -> torch.Tensor | None:
    """Return the (n, H, W, 3) uint8 pixels of the readable files, or None if there are none."""
    ((_, pixels, _),) = read_batches(Path(), list(files), [range(len(files))], preprocess, workers=0)
    return pixels if len(pixels) else None
