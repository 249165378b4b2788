"""Atomic writes of files and folders: written to a temporary path, synced, then renamed over the target.

The temporary path is ``.unimos-<key>-<random>.part`` in the target's folder. It is created exclusively, never through
a link. :func:`recover_leftovers` removes those of killed processes.
"""

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from unimos_pipe.base.errors import PATH_FAULTS, Argument, ExecutionError, InputError, ReadError, join_names
from unimos_pipe.base.safe_open import open_regular, walk_files

TEMPORARY = re.compile(r"\.unimos-[0-9a-f]{8}-[0-9a-f]{16}\.part")  # see _temp_path
_AT_FDCWD, _RENAME_EXCHANGE, _RENAME_SWAP = -100, 2, 2  # fcntl.h, linux/fs.h, macOS's stdio.h
_NO_EXCHANGE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}
_MANY_PATHS = 64  # as many are synced by one syncfs; 2,664 fsyncs of the icons take 10 s on a slow disk


@contextlib.contextmanager
def create_parent_dir(target: Path) -> Iterator[None]:
    """Create the parent folder of ``target``. If the block fails, folders created here are removed if empty."""
    folder = target.parent
    created = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # not empty, or removed by another process
            for path in created:
                path.rmdir()
        raise


@contextlib.contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Yield a new, empty file beside ``target``; on success it is synced to disk and takes the target's name.

    Its mode is what the umask leaves. If the block fails, the target is untouched and the new file is removed. A file
    in the folder of :func:`atomic_replace_dir` is synced with it.

    Raises:
        ExecutionError: another process replaced the temporary file.
    """
    in_folder = any(TEMPORARY.fullmatch(folder.name) for folder in target.absolute().parents)
    with create_parent_dir(target):
        part = _temp_path(target, "part")
        handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            try:
                yield part
                if not os.path.samestat(os.fstat(handle), part.lstat()):
                    raise ExecutionError(
                        f"{part} was replaced by another file while it was written; {target} is left as it was"
                    )
                if not in_folder:
                    os.fsync(handle)
            finally:
                os.close(handle)
            part.replace(target)
            if not in_folder:
                _sync_folder(target.parent)
        except BaseException as error:
            _name_target(error, target)
            part.unlink(missing_ok=True)
            raise


def _name_target(error: BaseException, target: Path) -> None:
    """Give the system's error about an open file, which does not know the file's name, that of what was written."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        error.filename = str(target)


@contextlib.contextmanager
def atomic_replace_dir(target: Path) -> Iterator[Path]:
    """Yield an empty folder in the parent of ``target`` that replaces it when the block succeeds.

    Linux and macOS exchange the two names in one step on local file systems, so the target always exists. Elsewhere
    (NFS, Windows) the old folder is first renamed to ``.unimos-<key>-<random>.old``. If the process is killed between
    the two renames, :func:`recover_leftovers` restores the old folder; every writer of a folder calls it first.
    """
    target = Path(os.path.abspath(target))  # noqa: PTH100 - resolve() would follow links
    with create_parent_dir(target):
        part = _temp_path(target, "part")
        part.mkdir()
        try:
            yield part
            _sync_tree(part)
            _replace_dir(part, target)
            _sync_folder(target.parent)
        except OSError as error:
            _name_target(error, target)
            raise
        finally:
            shutil.rmtree(part, ignore_errors=True)  # the old folder, or an unfinished new one


def _replace_dir(part: Path, target: Path) -> None:
    """Rename ``part`` to ``target``. An old target ends up under the name ``part`` or is removed."""
    if not os.path.lexists(target):
        part.rename(target)
    elif not _exchange_names(part, target):
        backup = part.with_suffix(".old")
        target.rename(backup)
        try:
            part.rename(target)
        except BaseException:
            if not os.path.lexists(target):
                backup.rename(target)
            raise
        shutil.rmtree(backup, ignore_errors=True)


def _exchange_names(part: Path, target: Path) -> bool:
    """Exchange the names of two paths atomically; return False if the file system cannot."""
    if os.name != "posix":
        return False
    library = ctypes.CDLL(None, use_errno=True)
    first, second = os.fsencode(part), os.fsencode(target)
    if hasattr(library, "renameat2"):
        failed = library.renameat2(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE)
    elif hasattr(library, "renamex_np"):
        failed = library.renamex_np(first, second, _RENAME_SWAP)
    else:
        return False
    if failed and (code := ctypes.get_errno()) not in _NO_EXCHANGE:
        raise OSError(code, os.strerror(code), str(target))
    return not failed


def recover_leftovers(target: Path) -> None:
    """Remove leftovers of killed writers of a target, and restore the old folder if the target is missing.

    Call it with the target's lock held (:mod:`unimos_pipe.base.locks`); otherwise the files may be in use.
    """
    for path in sorted(target.parent.glob(f".unimos-{_name_hash(target)}-*")):
        if path.suffix == ".old" and not os.path.lexists(target):
            path.rename(target)
        elif path.suffix in (".old", ".part"):
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all it holds, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _name_hash(target: Path) -> str:
    return hashlib.sha256(os.fsencode(target.name)).hexdigest()[:8]


def _temp_path(target: Path, suffix: str) -> Path:
    return target.with_name(f".unimos-{_name_hash(target)}-{secrets.token_hex(8)}.{suffix}")


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_write(target) as part:
        part.write_text(text, encoding="utf-8")


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(path: Path) -> None:
    """Sync a folder's names to disk, where folders can be synced (not on Windows)."""
    if os.name == "posix":
        _sync_file(path)


def _sync_tree(folder: Path) -> None:
    """Sync a folder and all it holds."""
    paths = [*folder.rglob("*"), folder]
    if len(paths) >= _MANY_PATHS and _sync_file_system(folder):
        return
    for path in paths:
        (_sync_folder if path.is_dir() else _sync_file)(path)


def _sync_file_system(folder: Path) -> bool:
    """Sync the file system of a folder by Linux's syncfs; return False where there is none."""
    library = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if not hasattr(library, "syncfs"):
        return False
    handle = os.open(folder, os.O_RDONLY)
    try:
        if library.syncfs(handle):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
    finally:
        os.close(handle)
    return True


def check_writable_folder(folder: Path, parameter: str) -> Path:
    """Check that files can be created in a folder, or in its nearest existing parent.

    Raises:
        InputError: naming the parameter to change.
        ExecutionError: it cannot be told, for a reason that may pass.
    """
    try:
        existing = _nearest_existing(folder)
        probe = existing / "probe"
        _temp_path(probe, "part").touch(exist_ok=False)
        for path in existing.glob(f".unimos-{_name_hash(probe)}-*.part"):  # and those of killed processes
            path.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in {*PATH_FAULTS, errno.ENOSPC, errno.EDQUOT}:
            raise ExecutionError(f"cannot write to {folder}: {error.strerror}") from None
        raise InputError(
            (f"cannot write to {folder}: {error.strerror}; choose another folder with ", Argument(parameter))
        ) from None
    return folder


def _nearest_existing(folder: Path) -> Path:
    """Return the folder or its nearest existing parent. Raises OSError for a dangling link."""
    for path in (folder, *folder.parents):
        try:
            path.stat()
            return path
        except FileNotFoundError:
            if path.is_symlink():
                raise FileExistsError(errno.EEXIST, "a broken link", str(path)) from None
    return folder


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove leftovers of killed writers in a cache folder whose lock is held; return the removed files."""
    leftovers = sorted([*folder.glob("*.part"), *folder.glob(".write-*")])
    for path in leftovers:
        path.unlink(missing_ok=True)
    return leftovers


@dataclass(frozen=True)
class OwnedFolder:
    """A kind of folder that this tool writes as a whole."""

    name: str  # with its article, for messages
    patterns: tuple[str, ...]  # patterns of the files it may hold, relative to it
    is_marked: Callable[[Path], bool]  # returns True for a folder written by this tool


def check_owned_folder(target: Path, kind: OwnedFolder, parameter: str) -> None:
    """Check that a folder may be replaced: absent, empty, or written by this tool with no other files in it.

    Raises:
        InputError: a link, a file, a folder without the kind's mark, or one with files that are not the kind's.
    """
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise InputError((f"{target} is not a folder; choose another ", Argument(parameter)))
    files = list(walk_files(target))
    if not files:
        return
    if not kind.is_marked(target):
        raise InputError(
            (f"{target} is not empty and not {kind.name} that this tool made; choose another ", Argument(parameter))
        )
    relative_paths = [PurePath("/", path.relative_to(target)) for path in files]
    foreign = [path for path in relative_paths if not any(path.match(f"/{pattern}") for pattern in kind.patterns)]
    if foreign:
        names = join_names((str(path)[1:] for path in foreign), 3)
        raise InputError(
            (f"{target} also holds {names}, which this tool did not make; choose another ", Argument(parameter))
        )


def check_owned_file(target: Path, prefix: str, what: str, parameter: str) -> None:
    """Check that a file may be replaced: absent, empty, or starting with ``prefix`` as this tool's output does.

    Raises:
        InputError: a folder, link or device, a file with another beginning, or one that cannot be read.
    """
    try:
        if not stat.S_ISREG(target.lstat().st_mode):
            raise InputError((f"{target} is not a regular file; choose another ", Argument(parameter)))
        with open_regular(target, sys.maxsize) as file:
            head = file.read(len(prefix.encode()))
    except FileNotFoundError:
        return
    except (OSError, ReadError) as error:
        reason, number = (error.reason, error.number) if isinstance(error, ReadError) else (error.strerror, error.errno)
        fault = InputError((f"cannot write {target}: {reason}; choose another ", Argument(parameter)))
        raise (fault if number in PATH_FAULTS else ReadError(target, reason, number)) from None
    if head and head != prefix.encode():
        raise InputError(
            (f"{target} is not {what} that this tool wrote and is left alone; choose another ", Argument(parameter))
        )


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with open_regular(path, sys.maxsize) as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
