"""Digests of image files, and stamps that show whether a file must be read again.

A file is read again unless its path, device, inode, size, mtime and ctime are unchanged and it was not modified just
before the last reading. Renaming a file or its folder changes the path or the inode of each file. Contents are always
compared by digest. Accidental collisions of xxh3_128 are negligible; a deliberate one only corrupts the attacker's own
cache.
"""

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import xxhash

from unimos_pipe.base.errors import ReadError
from unimos_pipe.base.safe_open import MAX_IMAGE_BYTES, check_whole, open_regular, reading

MIN_AGE = 2_000_000_000  # nanoseconds; the coarsest file times, FAT's, are two seconds
DIGEST_BYTES = 16  # bytes
STAMP = 5  # numbers: device, inode, size, mtime and ctime in nanoseconds
UNREAD = bytes(DIGEST_BYTES)  # in place of the digest of a file that cannot be read
READER_THREADS = 8  # threads; they wait for the disk
FILES_PER_TASK = 32  # files that are read in turn
SLOW_READ = 0.001  # seconds for a file on average, above which threads wait for the disk. Files in memory take 25 us
BLOCK = 1 << 20  # bytes


@dataclass(frozen=True)
class FileRecord:
    """Record of a file: its stamp (see :data:`STAMP`), the time of reading (ns), and the digest of its contents."""

    stamp: tuple[int, ...]
    read_at: int
    digest: bytes

    def is_unchanged(self, stamp: tuple[int, ...]) -> bool:
        """Return True if a file with this stamp need not be read again.

        The stamps must be equal, and the file older than :data:`MIN_AGE` when it was read.
        """
        return stamp == self.stamp and max(self.stamp[3:]) + MIN_AGE < self.read_at


@dataclass(frozen=True)
class FileDigests:
    """Digests (n, 16) uint8 and stamps (n, 5) int64 of n files, and the time of reading (ns)."""

    digests: np.ndarray
    stamps: np.ndarray
    read_at: int


def read_file_digests(root: Path, paths: Sequence[str], records: Mapping[str, FileRecord]) -> FileDigests:
    """Return the digests of files; only files that changed since their record are read.

    Args:
        paths: n POSIX paths below ``root``.
        records: earlier records by path.
    Returns:
        The digests in the order of ``paths``; zeros for a file that is missing or not readable.
    Raises:
        ReadError: a file cannot be read for a transient reason.
    """
    read_at = time.time_ns()

    def read_files(part: Sequence[str]) -> list[tuple[bytes, tuple[int, ...]]]:
        return [_digest_and_stamp(root / path, records.get(path)) for path in part]

    parts = (paths[first : first + FILES_PER_TASK] for first in range(0, len(paths), FILES_PER_TASK))
    results = []
    for part in parts:  # threads that wait for each other's interpreter lock take three times as long
        began = time.perf_counter()
        results += read_files(part)
        if time.perf_counter() - began > SLOW_READ * len(part):
            break
    with ThreadPoolExecutor(READER_THREADS) as pool:
        results += chain.from_iterable(pool.map(read_files, parts))
    digests = np.frombuffer(b"".join(digest for digest, _ in results), np.uint8).reshape(len(paths), DIGEST_BYTES)
    return FileDigests(digests, np.array([stamp for _, stamp in results], np.int64).reshape(len(paths), STAMP), read_at)


def _digest_and_stamp(path: Path, known: FileRecord | None) -> tuple[bytes, tuple[int, ...]]:
    """Return digest and stamp of a file, which is read unless it is unchanged since its record.

    Zeros for a file that is missing or not readable. Raises ReadError for a transient reason.
    """
    try:
        if known and known.is_unchanged(stamp := file_stamp(path)):
            return known.digest, stamp
        return content_digest(path)
    except ReadError as error:
        if not error.lasting:
            raise
        return UNREAD, (0,) * STAMP


def file_stamp(path: Path) -> tuple[int, ...]:
    """Return device, inode, size in bytes, mtime and ctime in nanoseconds. Raises ReadError."""
    with reading(path):
        return _stamp(path.stat())


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    device, inode = (number % 2**63 for number in (status.st_dev, status.st_ino))  # some file systems use more bits
    return device, inode, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def stat_file(path: Path) -> FileRecord:
    """Return the record of a file that is about to be read, without a digest. Raises ReadError."""
    read_at = time.time_ns()
    return FileRecord(file_stamp(path), read_at, b"")


def content_digest(path: Path) -> tuple[bytes, tuple[int, ...]]:
    """Return the xxh3_128 digest of a file's bytes, and the file's stamp before they were read. Raises ReadError."""
    digest, count = xxhash.xxh3_128(), 0
    with open_regular(path, MAX_IMAGE_BYTES, buffering=0) as file:
        status = os.fstat(file.fileno())
        while block := file.read(min(status.st_size - count + 1, BLOCK)):  # as little as may be: it is allocated first
            digest.update(block)
            count += len(block)
        check_whole(file, path, count)
    return digest.digest(), _stamp(status)
