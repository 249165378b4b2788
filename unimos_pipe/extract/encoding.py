"""Shards from images: decoding ahead, encoding, and writing behind, so that the encoder never waits for a disk."""

import importlib.metadata
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from unimos_pipe.base.errors import RunError
from unimos_pipe.cache.identity import ImageIdentity
from unimos_pipe.cache.layout import shard_path
from unimos_pipe.cache.shard import ImageHeader, write_image_shard
from unimos_pipe.data.manifest import Manifest
from unimos_pipe.extract.encoder import Encoder
from unimos_pipe.extract.images import read_batches


@dataclass(frozen=True)
class ShardJob:
    """What the shards of a domain are made of, and how; the encoder apart.

    Batches never cross a shard, so a shard's features do not depend on which others are made with it, or where.
    """

    manifest: Manifest
    identity: ImageIdentity
    folder: Path
    bounds: tuple[tuple[int, int], ...]  # (first row, row after the last) of every shard of the domain
    batch_size: int
    workers: int
    skip_bad: bool

    def batches(self, index: int) -> list[list[int]]:
        """The row numbers of each batch of a shard."""
        start, stop = self.bounds[index]
        return [list(range(first, min(first + self.batch_size, stop))) for first in range(start, stop, self.batch_size)]

    def rows(self, index: int) -> int:
        """How many rows of the manifest a shard stands for."""
        return self.bounds[index][1] - self.bounds[index][0]


@dataclass
class Made:
    """What came of some shards: rows encoded, and (path, reason) of every unreadable image."""

    encoded: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)


def encode_shards(
    job: ShardJob, indices: Sequence[int], encoder: Encoder, on_rows: Callable[[int], None] = lambda rows: None
) -> Made:
    """Encode and write some of a domain's shards. A shard with unreadable images is left out unless ``skip_bad``.

    Raises:
        RunError: a full disk, features that are not finite, or a decoder that hung or crashed.
    """
    plan = [(index, rows) for index in indices for rows in job.batches(index)]
    stream = read_batches(
        job.manifest.root,
        job.manifest.paths,
        [rows for _, rows in plan],
        encoder.preprocess,
        job.workers,
        on_gpu=encoder.device.type == "cuda",
    )
    made = Made()
    with _ShardWriter(job, made) as writer:
        for (index, rows), (good, pixels, bad) in zip(plan, stream, strict=True):
            writer.add(index, good, encoder.encode_images(pixels).numpy() if good else None, bad)
            on_rows(len(rows))
    return made


class _ShardWriter:
    """Collects encoded batches and writes each shard, in a thread, when its last row has come."""

    def __init__(self, job: ShardJob, made: Made):
        self.job, self.made = job, made
        self.thread = ThreadPoolExecutor(1)
        self.writing: Future | None = None
        self._start_shard()

    def __enter__(self) -> "_ShardWriter":
        return self

    def __exit__(self, kind, *_) -> None:
        """Finish the shard that is being written, interrupted or not; one half encoded is dropped."""
        self.thread.shutdown(wait=True)
        if kind is None:
            self._wait()

    def _start_shard(self) -> None:
        self.rows: list[int] = []
        self.features: list[np.ndarray] = []
        self.bad: list[tuple[str, str]] = []

    def add(self, index: int, rows: list[int], features: np.ndarray | None, bad: list[tuple[int, str]]) -> None:
        """Take a batch: its good rows with their (n, D) features, and its bad rows with the reasons."""
        if rows:
            self.rows += rows
            self.features.append(features.astype(np.float16))
        self.bad += [(self.job.manifest.paths[row], reason) for row, reason in bad]
        if len(self.rows) + len(self.bad) == self.job.rows(index):
            self.made.bad += self.bad
            if not self.bad or self.job.skip_bad:
                self._write(index)
            self._start_shard()

    def _write(self, index: int) -> None:
        manifest, (start, stop) = self.job.manifest, self.job.bounds[index]
        if not self.rows:
            raise RunError(f"no readable image in rows {start} to {stop - 1} of {manifest.root}")
        header = ImageHeader(
            **asdict(self.job.identity),
            dataset=manifest.dataset,
            domain=manifest.domain,
            class_names=manifest.classes,
            row_start=start,
            row_stop=stop,
            row_total=len(manifest),
            skipped=tuple(self.bad),
            versions=library_versions(),
        )
        self._wait()
        self.writing = self.thread.submit(
            write_image_shard,
            shard_path(self.job.folder, index, len(self.job.bounds)),
            header,
            np.concatenate(self.features),
            manifest.labels[self.rows],
            [manifest.paths[row] for row in self.rows],
            np.array(self.rows),
        )
        self.made.encoded += len(self.rows)

    def _wait(self) -> None:
        """Wait for the shard being written; raises what went wrong with it."""
        if self.writing is not None:
            self.writing.result()


def library_versions() -> dict[str, str]:
    """Versions of what shapes features, recorded in headers but no part of the identity."""
    names = ("unimos-pipe", "torch", "torchvision", "open_clip_torch", "pillow", "h5py", "numpy")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
