"""Shards from images and older shards. Decoding runs ahead and writing behind, so that the encoder does not wait."""

import importlib.metadata
import platform
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from unimos_pipe.base.errors import ReadError
from unimos_pipe.cache.cache_paths import shard_path
from unimos_pipe.cache.encoder_identity import EncoderIdentity
from unimos_pipe.cache.existing_shards import read_shared_features
from unimos_pipe.cache.shard import ImageHeader, read_image_shard, write_image_shard
from unimos_pipe.data.file_digests import UNREAD, FileDigests, file_stamp
from unimos_pipe.data.manifest import Manifest
from unimos_pipe.extract.domain_decoders import DomainDecoders
from unimos_pipe.extract.encoder_protocol import BATCHES_IN_FLIGHT, Encoder


@dataclass(frozen=True)
class ShardJob:
    """Everything but the encoder that determines the shards of a domain.

    Batches do not cross shards, so features do not depend on which other shards the process encodes.
    """

    manifest: Manifest
    file_digests: FileDigests  # of the manifest's images
    encoder: EncoderIdentity
    folder: Path
    token: str  # random, part of the file names of this extraction's shards
    bounds: tuple[tuple[int, int], ...]  # (first row, row after the last) of every shard of the domain
    older_files: tuple[Path, ...]  # shards with known features: of the domain, or of others by the same encoder
    sources: np.ndarray  # (n, 2) index into older_files and row there of each feature; -1 = encode
    batch_size: int
    workers: int | None  # decoder processes; None: by device
    skip_bad: bool
    max_pixels: int  # largest image that is read

    def path(self, index: int) -> Path:
        """Return the file of a shard."""
        return shard_path(self.folder, index, self.token)

    def new_rows(self, index: int) -> list[int]:
        """Return the rows of a shard whose images must be encoded."""
        return [row for row in range(*self.bounds[index]) if self.sources[row, 0] < 0]

    def shared_rows(self) -> dict[str, int]:
        """Return the number of rows whose features other domains' shards hold, by data set."""
        files = [self.older_files[number] for number in self.sources[:, 0].tolist() if number >= 0]
        return dict(Counter(path.parents[2].name for path in files if path.parent != self.folder))

    def batches(self, index: int) -> list[list[int]]:
        """Return the rows of each batch of a shard."""
        rows = self.new_rows(index)
        return [rows[first : first + self.batch_size] for first in range(0, len(rows), self.batch_size)]

    def rows(self, index: int) -> int:
        """Return the number of manifest rows of a shard."""
        return self.bounds[index][1] - self.bounds[index][0]


@dataclass
class EncodeResult:
    """Result of encoding shards: number of encoded rows, and what was seen of their images.

    ``bad`` has (path, reason) of unreadable images, ``uniform`` the paths of those without contrast, ``guessed`` (path,
    range) of those whose grey values were scaled by percentiles.
    """

    encoded: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)
    uniform: list[str] = field(default_factory=list)
    guessed: list[tuple[str, str]] = field(default_factory=list)

    def add(self, other: "EncodeResult") -> None:
        """Add the result of other shards."""
        self.encoded += other.encoded
        self.bad += other.bad
        self.uniform += other.uniform
        self.guessed += other.guessed


def encode_shards(
    job: ShardJob,
    indices: Sequence[int],
    encoder: Encoder,
    on_rows: Callable[[int], None] = lambda rows: None,
    decoders: DomainDecoders | None = None,
) -> EncodeResult:
    """Encode and write shards; unreadable images are left out of them and listed in their headers.

    Args:
        decoders: of several domains, the job's manifest among them; None starts some for this call.

    Raises:
        ExecutionError: a full disk, features that are not finite, or a decoder that hung or crashed.
        SharedShardError: a shard of another domain no longer holds the features that it held.
    """
    if decoders is None:
        sizes = {"workers": job.workers, "max_pixels": job.max_pixels}
        with DomainDecoders([job.manifest], encoder, job.batch_size, **sizes) as decoders:
            return encode_shards(job, indices, encoder, on_rows, decoders)
    plan = [rows for index in indices for rows in job.batches(index)]
    result = EncodeResult()
    stream = overlap_copies(_decode_batches(job, plan, decoders, result), encoder) if plan else iter(())
    with _ShardWriter(job, result, lambda: encoder.encode_texts(["a photo"]).shape[1]) as writer:
        for index in indices:
            rows, features, bad = [], [], []
            for batch in job.batches(index):
                good, batch_features, unreadable = next(stream)
                if good:
                    rows += good
                    features.append(batch_features.numpy().astype(np.float16))
                bad += unreadable
                on_rows(len(batch))
            on_rows(job.rows(index) - len(rows) - len(bad))
            writer.write(index, rows, features, bad)
        next(stream, None)  # after the last domain this ends the decoders while the last shard is written
    return result


def overlap_copies(stream: Iterable, encoder: Encoder) -> Iterator:
    """Yield (readable rows, their (m, D) float32 features or None, unreadable rows) of each batch of pixels.

    A GPU gets the next batches before the features of a batch are waited for, so that it has work while this thread
    waits for decoders or for the interpreter's lock.
    """
    max_in_flight = BATCHES_IN_FLIGHT if encoder.device.type == "cuda" else 0
    in_flight = deque()
    for good, pixels, bad in stream:
        in_flight.append((good, encoder.start_encoding(pixels) if good else None, bad))
        if len(in_flight) > max_in_flight:
            yield _collect(*in_flight.popleft())
    yield from (_collect(*batch) for batch in in_flight)


def _collect(good: list[int], wait: Callable | None, bad: list) -> tuple:
    return good, wait and wait(), bad


def _decode_batches(
    job: ShardJob, plan: Sequence[Sequence[int]], decoders: DomainDecoders, result: EncodeResult
) -> Iterator:
    """Return the decoded batches of a plan; looks go to ``result``."""
    paths = job.manifest.paths

    def take_look(row: int, uniform: bool, guessed: str) -> None:
        if uniform:
            result.uniform.append(paths[row])
        if guessed:
            result.guessed.append((paths[row], guessed))

    return decoders.read_batches(job.manifest, plan, take_look)


class _ShardWriter:
    """Assembles and writes shards in a thread, one at a time, so that the encoder goes on meanwhile."""

    def __init__(self, job: ShardJob, result: EncodeResult, feature_dim: Callable[[], int]):
        self.job, self.result, self.feature_dim = job, result, feature_dim
        self.thread = ThreadPoolExecutor(1)
        self.writing: Future | None = None

    def __enter__(self) -> "_ShardWriter":
        return self

    def __exit__(self, kind, *_) -> None:
        """Wait for the shard that is being written, also after an exception."""
        self.thread.shutdown(wait=True)
        if kind is None:
            self._wait()

    def write(self, index: int, rows: list[int], features: list[np.ndarray], bad: list[tuple[int, str]]) -> None:
        """Start writing a shard from new rows, whose (m, D) features come in batches, and from older shards.

        Raises what the writing of the shard before raised.
        """
        self._wait()
        self.writing = self.thread.submit(self._write, index, rows, features, bad)

    def _write(self, index: int, rows: list[int], features: list[np.ndarray], bad: list[tuple[int, str]]) -> None:
        """Write a shard.

        ``bad`` holds (row, reason) of rows that could not be encoded. A shard that such rows keep from being used, and
        that would hold no new feature, is not written.
        """
        job = self.job
        changed = {row for row in rows if not _is_unchanged(job, row)}
        bad = sorted([*bad, *((row, "it changed while it was read") for row in changed)])
        self.result.bad += [(job.manifest.paths[row], reason) for row, reason in bad]
        if bad and not job.skip_bad and len(changed) == len(rows):
            return
        missing = {row for row, _ in bad}
        stored = np.array([row for row in range(*job.bounds[index]) if row not in missing], np.int64)
        write_image_shard(
            job.path(index),
            _build_header(job, index, bad, changed),
            self._assemble(stored, np.array(rows, np.int64), features),
            [job.manifest.paths[row] for row in stored],
            stored,
            job.file_digests.digests[stored],
            job.file_digests.stamps[stored],
        )
        self.result.encoded += len(rows) - len(changed)

    def _assemble(self, stored: np.ndarray, rows: np.ndarray, batches: list[np.ndarray]) -> np.ndarray:
        """Return the (n, D) float16 features of ascending rows ``stored``: those in ``rows`` are new, others older."""
        parts = _read_older_features(self.job, stored[~np.isin(stored, rows)])
        parts += [(rows, np.concatenate(batches))] if batches else []
        dim = parts[0][1].shape[1] if parts else self.feature_dim()
        features = np.empty((len(stored), dim), np.float16)
        for part_rows, values in parts:
            kept = np.isin(part_rows, stored)
            features[np.searchsorted(stored, part_rows[kept])] = values[kept]
        return features

    def _wait(self) -> None:
        """Wait for the shard that is being written; raise its exception."""
        if self.writing is not None:
            self.writing.result()


def _is_unchanged(job: ShardJob, row: int) -> bool:
    """Return whether an image file is unchanged since its digest was computed."""
    try:
        return file_stamp(job.manifest.root / job.manifest.paths[row]) == tuple(job.file_digests.stamps[row].tolist())
    except ReadError as error:
        if not error.lasting:
            raise
        return False


def _read_older_features(job: ShardJob, rows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (rows, their (m, D) features) of each older shard that holds some of these rows; each is read once.

    Raises:
        SharedShardError: a shard of another domain no longer holds them.
    """
    parts = []
    for number in dict.fromkeys(job.sources[rows, 0].tolist()):
        of_file = rows[job.sources[rows, 0] == number]
        path, positions = job.older_files[number], job.sources[of_file, 1]
        if path.parent == job.folder:
            features = read_image_shard(path).image_features[positions]
        else:
            features = read_shared_features(path, positions, job.file_digests.digests[of_file])
        parts.append((of_file, features))
    return parts


def _build_header(job: ShardJob, index: int, bad: Sequence[tuple[int, str]], changed: Collection[int]) -> ImageHeader:
    """Return a shard's header; rows in ``changed`` get no digest, so that they are read again next time."""
    manifest, (start, stop) = job.manifest, job.bounds[index]
    return ImageHeader(
        **asdict(job.encoder),
        dataset=manifest.dataset,
        domain=manifest.domain,
        row_start=start,
        row_stop=stop,
        skipped=tuple(
            (manifest.paths[row], reason, (UNREAD if row in changed else job.file_digests.digests[row].tobytes()).hex())
            for row, reason in bad
        ),
        read_at=job.file_digests.read_at,
        origin={},
        versions=library_versions(),
    )


def library_versions() -> dict[str, str]:
    """Return versions of libraries that affect features; recorded in headers, not part of the identity."""
    names = ("unimos-pipe", "torch", "torchvision", "open_clip_torch", "pillow", "h5py", "numpy")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
