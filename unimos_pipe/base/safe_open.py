"""Opening of files for reading: regular files only, of bounded size. All reading goes through this module.

A failure to read is a :class:`ReadError` with its cause and never means that a file is damaged; only bytes that were
read completely can be damaged. ``tests/integration/test_open_calls.py`` finds other ways of opening files.
"""

import contextlib
import errno
import fnmatch
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from unimos_pipe.base.errors import ReadError


def memory_size() -> int:
    """Return the bytes of main memory, or ``sys.maxsize`` if the system does not say."""
    if not hasattr(os, "sysconf"):
        return sys.maxsize
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


MAX_SETTINGS_BYTES = 2**24  # bytes of a spec, a recipe, a config or a result: one of 10,000 classes takes a twentieth
MAX_TEXT_BYTES = 2**29  # bytes of a list or a table; a list of a million images takes a fifth of it
MAX_IMAGE_BYTES = 2**30  # of an image file
DEFAULT_MAX_PIXELS = 200_000_000  # of an image; one of 8-bit colours takes 600 MB
PIXEL_LIMIT = 2**30  # largest value of that limit
MAX_ARRAY_BYTES = min(2**34, memory_size())  # of a shard, a run's tensors, a checkpoint or an export

_KINDS = {
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def file_kind(mode: int) -> str:
    """Return the kind of file of an ``st_mode``: ``regular file``, ``folder``, ``named pipe``, ``socket`` ...."""
    return "regular file" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "special file")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn operating-system errors in a block that reads a file into :class:`ReadError`.

    An OSError without an errno comes from a library, is about the contents, and is raised unchanged.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise ReadError.of(path, error) from None


@contextlib.contextmanager
def open_regular(path: Path, max_bytes: int, *, buffering: int = -1) -> Iterator[BinaryIO]:
    """Open a regular file for reading bytes. Opening a pipe or device does not block; it raises.

    Args:
        max_bytes: the largest size allowed.
        buffering: as for :func:`open`; 0 makes fewer system calls where a file is read at once.
    Raises:
        ReadError: it cannot be opened or read, is no regular file, or is larger.
    """
    with reading(path), os.fdopen(_open_handle(path, max_bytes), "rb", buffering) as file:
        yield file


def _open_handle(path: Path, max_bytes: int) -> int:
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, f"a {file_kind(status.st_mode)}, not a regular file")
        if status.st_size > max_bytes:
            raise OSError(errno.EFBIG, f"{status.st_size:,} bytes, more than {max_bytes:,}")
    except OSError:
        os.close(handle)
        raise
    return handle


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """Return the contents of a regular file.

    Raises:
        ReadError: as :func:`open_regular`, or the file changed while it was read.
    """
    with open_regular(path, max_bytes) as file:
        content = file.read(os.fstat(file.fileno()).st_size + 1)  # not max_bytes, which would be allocated
        check_whole(file, path, len(content))
    return content


def check_whole(file: BinaryIO, path: Path, count: int) -> None:
    """Raise ReadError unless ``count`` is the size of an open file, which otherwise changed while it was read."""
    if count != os.fstat(file.fileno()).st_size:
        raise ReadError(path, "it changed while it was read", errno.EAGAIN)


def read_text(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Return the text of a regular UTF-8 file, without a byte order mark and with its line ends.

    Raises:
        ReadError: as :func:`read_bytes`.
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_bytes(path, max_bytes).decode("utf-8-sig")


def read_json(path: Path, max_bytes: int = MAX_SETTINGS_BYTES) -> Any:
    """Return the value of a JSON file.

    Raises:
        ReadError: as :func:`read_bytes`.
        ValueError, RecursionError: it is not JSON.
    """
    return json.loads(read_text(path, max_bytes))


def list_folder(folder: Path, pattern: str = "*") -> list[Path]:
    """Return the entries of a folder whose names match a pattern, sorted; empty if there is no folder.

    Raises ReadError for a folder that cannot be listed, which ``glob`` would ignore.
    """
    try:
        with reading(folder):
            names = [path.name for path in folder.iterdir()]
    except ReadError as error:
        if error.absent:
            return []
        raise
    return sorted(folder / name for name in fnmatch.filter(names, pattern))


def walk_files(folder: Path) -> Iterator[Path]:
    """Yield all files and links below a folder in order. Links are not followed. Raises as :func:`list_folder`."""
    for path in list_folder(folder):
        with reading(path):
            is_folder = stat.S_ISDIR(path.lstat().st_mode)
        if is_folder:
            yield from walk_files(path)
        else:
            yield path
