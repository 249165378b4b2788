"""Files that others name or wrote, opened with care: regular files only, of a size that fits into memory."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

MAX_TEXT_BYTES = 2**29  # bytes; a list of a million images takes a fifth of it

_KINDS = {
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def file_kind(mode: int) -> str:
    """What a file of this ``st_mode`` is: ``regular file``, ``folder``, ``named pipe``, ``socket``, ``device``."""
    return "regular file" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "special file")


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading bytes if it is a regular one. Pipes and devices, which may never end, are not waited for.

    Raises:
        OSError: it cannot be opened, or is something else; ``strerror`` says what.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    kind = file_kind(os.fstat(handle).st_mode)
    if kind != "regular file":
        os.close(handle)
        raise OSError(errno.EINVAL, f"a {kind}, not a regular file", str(path))
    return os.fdopen(handle, "rb")


def read_text(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """The text of a regular UTF-8 file, a byte order mark taken off and line ends as they are.

    Raises:
        OSError: it cannot be opened, is no regular file, or has more than ``most`` bytes.
        UnicodeDecodeError: it is not UTF-8.
    """
    with open_regular(path) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"more than {max_bytes:,} bytes", str(path))
    return data.decode("utf-8-sig")
