"""What image files hold: a digest of each one's bytes, and the stamp that says whether they must be read again.

A file is read again unless its path, device, inode, size, mtime and ctime are those of the last time and it was not
just being written then. Of files that were renamed, also with the folder they lie in, either the path or the inode is
another. A stamp can so only cause a reading; contents are always compared by digest. The digest is xxh3_128: no two
images meet by accident, and who forges a meeting deceives a cache of their own.
"""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from unimos_pipe.base.errors import ReadError
from unimos_pipe.base.safe_open import MAX_IMAGE_BYTES, check_whole, open_regular, reading

MIN_AGE = 2_000_000_000  # nanoseconds; the coarsest file times, FAT's, are two seconds
DIGEST_BYTES = 16  # bytes
STAMP = 5  # numbers: device, inode, size, mtime and ctime in nanoseconds
UNREAD = bytes(DIGEST_BYTES)  # stands for contents that could not be read
READER_THREADS = 8  # threads; they wait for disks, not for cores


@dataclass(frozen=True)
class FileRecord:
    """One file as it was found: its stamp (see :data:`STAMP`), when it was read (ns), and what it held."""

    stamp: tuple[int, ...]
    read_at: int
    digest: bytes

    def is_unchanged(self, stamp: tuple[int, ...]) -> bool:
        """Whether a file of this stamp need not be read: the same, and not so young then that it may have changed."""
        return stamp == self.stamp and max(self.stamp[3:]) + MIN_AGE < self.read_at


@dataclass(frozen=True)
class FileDigests:
    """The contents of n files: (n, 16) uint8 digests, (n, 5) int64 stamps, and when they were taken (ns)."""

    digests: np.ndarray
    stamps: np.ndarray
    read_at: int


def read_file_digests(root: Path, paths: Sequence[str], records: Mapping[str, FileRecord]) -> FileDigests:
    """Stamp every file and read those that are not as they were seen.

    Args:
        paths: n POSIX paths below ``root``.
        seen: what is known of files, by path.
    Returns:
        The contents in the order of ``paths``; a file that is not there or not ours to read has a digest of zeros.
    Raises:
        ReadError: a file that cannot be read for a reason that may pass.
    """
    read_at = time.time_ns()

    def digest_and_stamp(path: str) -> tuple[bytes, tuple[int, ...]]:
        try:
            stamp = file_stamp(root / path)
            known = records.get(path)
            return known.digest if known and known.is_unchanged(stamp) else content_digest(root / path), stamp
        except ReadError as error:
            if not error.lasting:
                raise
            return UNREAD, (0,) * STAMP

    with ThreadPoolExecutor(READER_THREADS) as pool:
        results = list(pool.map(digest_and_stamp, paths))
    digests = np.frombuffer(b"".join(digest for digest, _ in results), np.uint8).reshape(len(paths), DIGEST_BYTES)
    return FileDigests(digests, np.array([stamp for _, stamp in results], np.int64).reshape(len(paths), STAMP), read_at)


def file_stamp(path: Path) -> tuple[int, ...]:
    """Device, inode, size in bytes, and mtime and ctime in nanoseconds. Raises ReadError."""
    with reading(path):
        status = path.stat()
    device, inode = (number % 2**63 for number in (status.st_dev, status.st_ino))  # some file systems use more bits
    return device, inode, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def stat_file(path: Path) -> FileRecord:
    """A file as it is before it is read, its contents left open. Raises ReadError."""
    read_at = time.time_ns()
    return FileRecord(file_stamp(path), read_at, b"")


def content_digest(path: Path) -> bytes:
    """xxh3_128 of a file's bytes. Raises ReadError."""
    digest, count = xxhash.xxh3_128(), 0
    with open_regular(path, MAX_IMAGE_BYTES) as file:
        while block := file.read(1 << 20):
            digest.update(block)
            count += len(block)
        check_whole(file, path, count)
    return digest.digest()
