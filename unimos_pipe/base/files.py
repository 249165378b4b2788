"""Files that are whole or absent: write beside the target, fsync, then rename over it."""

import contextlib
import errno
import fcntl
import hashlib
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from unimos_pipe.base.errors import RunError, UserError


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a ``.part`` path beside ``target``; on success it is synced to disk and takes the target's name.

    If the block fails, the target is untouched and the ``.part`` file is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{platform.node()}-{os.getpid()}.part")  # two writers never share one
    try:
        yield part
        _sync(part)
        part.replace(target)
        _sync(target.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def replace_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``target`` that takes its place when the block succeeds."""
    part = target.with_name(f"{target.name}.part-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(target, ignore_errors=True)
        part.replace(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text so that a reader sees the old file or the new one, never a piece."""
    with replacing(target) as part:
        part.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def writable_folder(folder: Path, option: str) -> Path:
    """Make a folder and prove that files can be made in it. Raises UserError naming the option to change."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; choose another folder with {option}") from None
    return folder


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[bool]:
    """Hold a folder's lock; a second process is refused. A killed holder's lock is free again at once.

    Yields whether the lock is held: on a file system without locks the work goes on without one. Nothing can be torn
    then either, as every writer renames a file of its own over the target; two of them only do the work twice.

    Raises:
        UserError: another process holds the lock.
        RunError: the folder cannot be written to.
    """
    path = folder / ".lock"
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = path.open("w")
        except OSError as error:
            raise RunError(f"cannot write to {folder}: {error.strerror}") from None
        with handle:
            # a record lock: unlike flock's it is not inherited by worker processes that may outlive a killed holder
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    raise UserError(f"another process is writing to {folder}; wait for it to finish") from None
                yield False
                return
            if not _is_at(handle, path):
                continue  # its last holder removed the file between our opening and locking it
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)
            return


def _is_at(handle, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove what killed writers left in a folder whose lock is held; returns the files removed."""
    leftovers = sorted([*folder.glob("*.part"), *folder.glob(".write-*")])
    for path in leftovers:
        path.unlink(missing_ok=True)
    return leftovers


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
