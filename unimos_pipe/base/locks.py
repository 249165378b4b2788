"""Lock files: one writer per file or folder. The lock file is next to the target and names its holder."""

import contextlib
import errno
import hashlib
import os
import platform
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

with warnings.catch_warnings(action="ignore"):  # filelock warns if there is no fcntl
    from filelock import FileLock, SoftFileLock, Timeout

from unimos_pipe.base.atomic_io import create_parent_dir, recover_leftovers
from unimos_pipe.base.errors import ExecutionError, InputError, ReadError
from unimos_pipe.base.safe_open import open_regular
from unimos_pipe.base.waits import told_wait

NATIVE = not issubclass(FileLock, SoftFileLock)  # a soft lock's file would outlive a killed holder
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}


def lock_path(target: Path) -> Path:
    """Return the path of a target's lock file: hidden, in the same folder, so that replacing the target keeps it."""
    long = len(os.fsencode(target.name)) > 200
    name = hashlib.sha256(os.fsencode(target.name)).hexdigest() if long else target.name
    return target.with_name(f".{name}.lock")


@contextlib.contextmanager
def exclusive_lock(target: Path, *, lock: Path | None = None, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of a file or folder that is about to be written. The lock of a killed process is released.

    Yields True if the lock is held, and False where the system or file system has no locks. Without a lock nothing is
    torn either, because each writer renames its own temporary file over the target; two writers only do the work twice.

    Args:
        target: the file or folder to be written; it need not exist.
        lock: its lock file; None takes :func:`lock_path`.
        wait: wait for another holder instead of raising.
    Raises:
        InputError: another process holds the lock; the message names its host, process and command.
        ExecutionError: the lock file cannot be written.
    """
    if not NATIVE:
        yield False
        return
    target = Path(os.path.abspath(target))  # noqa: PTH100 - resolve() would follow links
    path = lock or lock_path(target)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(create_parent_dir(path))
            file_lock = FileLock(path, timeout=-1 if wait else 0, fallback_to_soft=False, on_acquired=_write_holder)
            with told_wait(lambda: f"{read_lock_holder(path)}, who writes to {target}") if wait else nullcontext():
                file_lock.acquire()
        except Timeout:
            raise InputError(
                f"another process is writing to {target} ({read_lock_holder(path)}); wait for it to finish"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise ExecutionError(f"cannot write to {target}: {error.strerror}") from None
            file_lock = None
        if file_lock:
            stack.callback(_release, file_lock, path)
        yield file_lock is not None


def _release(file_lock: FileLock, path: Path) -> None:
    with contextlib.suppress(OSError):  # some systems cannot remove an open file; it stays, unlocked
        path.unlink()
    file_lock.release()


@contextlib.contextmanager
def writer_lock(*targets: Path, lock: Path | None = None, wait: bool = False) -> Iterator[None]:
    """Hold the lock of the first target (see :func:`exclusive_lock`) and recover the leftovers of all of them.

    See :func:`unimos_pipe.base.atomic_io.recover_leftovers`.
    """
    with exclusive_lock(targets[0], lock=lock, wait=wait) as locked:
        for target in targets if locked else ():
            recover_leftovers(target)
        yield


def read_lock_holder(lock: Path) -> str:
    """Return the holder of a lock file, as the holder wrote it."""
    try:
        with open_regular(lock, sys.maxsize) as file:
            text = file.read(2000).decode("utf-8", "replace")
    except ReadError:
        text = ""
    return text or "unknown process"


def _write_holder(handle: int) -> None:
    """Write this process's host, number and command into its lock file."""
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    text = f"host {platform.node()}, process {os.getpid()}, {command}"
    with contextlib.suppress(OSError):  # a full disk: the lock is held without the text
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, text.encode("utf-8", "replace")[:2000])
