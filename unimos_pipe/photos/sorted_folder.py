"""A folder of links or copies that this tool made, with a record of them. Everything else in it is left alone.

``.unimos-sorted.json`` lists each link with its target and each copy with its original, size and time. An entry is
this tool's own only while the file on disk agrees with the record. The record names new
entries before they are made, so that a killed process leaves nothing unrecorded. A copy is removed only while its
original exists elsewhere with the same bytes.
"""

import errno
import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from unimos_pipe.base.atomic_io import atomic_write, recover_leftovers, write_text
from unimos_pipe.base.errors import Argument, InputError, ReadError
from unimos_pipe.base.record_parsing import RecordError, parse_record, to_plain
from unimos_pipe.base.safe_open import MAX_IMAGE_BYTES, MAX_TEXT_BYTES, read_bytes, read_json

RECORD = ".unimos-sorted.json"
KIND, SCHEMA = "unimos-pipe sorted photos", 1
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL}  # of a file system or account
TIME_STEP = 2 * 10**9  # nanoseconds; file times on FAT are even seconds


@dataclass(frozen=True)
class Copy:
    """A copy: absolute path of its original, and the original's size in bytes and time of change."""

    original: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, kw_only=True)
class FolderRecord:
    """Links and copies made in a folder, by path relative to it; ``folders`` are the names of its subfolders."""

    kind: str = KIND
    schema: int = SCHEMA
    folders: tuple[str, ...] = ()
    links: dict[str, str] = field(default_factory=dict)  # absolute target by path
    copies: dict[str, Copy] = field(default_factory=dict)


@dataclass
class Changes:
    """Changes of a folder, as paths relative to it."""

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)  # another's file has the name
    left: list[str] = field(default_factory=list)  # recorded, but changed since, or the last copy of a photo


def read_record(root: Path) -> FolderRecord:
    """Return the record of a folder; an empty one if there is none.

    Raises:
        InputError: a file that is not a record, or paths in it that leave the folder.
    """
    file = root / RECORD
    try:
        values = read_json(file, MAX_TEXT_BYTES)
    except ReadError as error:
        if error.absent:
            return FolderRecord()
        raise
    except (ValueError, RecursionError):
        values = None
    fault = "it is no record of sorted photos"
    if isinstance(values, dict) and (values.get("kind"), values.get("schema")) == (KIND, SCHEMA):
        try:
            record = parse_record(FolderRecord, values)
            bad = [path for path in (*record.links, *record.copies) if not _is_entry(path)]
            bad += [name for name in record.folders if not _is_name(name)]
            if not bad:
                return record
            fault = f"its path {bad[0]!r} leaves the folder"
        except RecordError as error:
            fault = str(error)
    raise InputError(f"{file}: {fault}", todo=("Choose another folder with ", Argument("to")))


def _is_name(name: str) -> bool:
    return bool(name) and name not in (".", "..") and not set("/\\\0") & set(name)


def _is_entry(path: str) -> bool:
    """Return whether a path is ``folder/name``."""
    parts = path.split("/")
    return len(parts) == 2 and all(part and part not in (".", "..") and "\0" not in part for part in parts)


def check_folders(root: Path, wanted: Mapping[str, Path]) -> None:
    """Raise InputError if a subfolder to write to is a link or a file."""
    for name in sorted({path.partition("/")[0] for path in wanted}):
        folder = root / name
        if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
            raise InputError(
                f"{folder} is not a folder",
                todo=("Move it away, or choose another place with ", Argument("to")),
            )


def update_folder(
    root: Path, wanted: Mapping[str, Path], *, copy: bool, on_files: Callable[[int], None] = lambda files: None
) -> Changes:
    """Make a folder hold the wanted links or copies, and remove own ones that are not wanted.

    Call it with the record's lock held.

    Args:
        wanted: original by ``folder/name``; the originals exist.
        on_files: called with 1 after each wanted file.
    Raises:
        InputError: a subfolder that is a link or a file, an invalid record, or a file system without links.
    """
    check_folders(root, wanted)
    before, planned, changes = read_record(root), _plan_entries(wanted, copy), Changes()
    for name in (*before.links, *before.copies):
        if not os.path.lexists(root / name):
            if name in before.copies and name in wanted:
                recover_leftovers(root / name)
        elif not _is_own(root / name, before, name):
            changes.left += [] if name in wanted else [name]
        elif _entry(before, name) == _entry(planned, name):
            changes.kept.append(name)
        elif name in before.copies and not _original_remains(root / name, before.copies[name]):
            changes.left.append(name)
        else:
            (root / name).unlink()
            changes.removed.append(name)
    kept = {*changes.kept}
    changes.blocked = [name for name in wanted if name not in kept and os.path.lexists(root / name)]
    to_add = [name for name in wanted if name not in kept and name not in {*changes.blocked}]
    folders = {*before.folders, *(name for name in _folders(wanted) if not os.path.lexists(root / name))}
    _write_record(root, _pick(planned, {*kept, *to_add}, folders))
    for name in to_add:
        (root / name).parent.mkdir(exist_ok=True)
        _place(root / name, wanted[name], copy)
        changes.added.append(name)
        on_files(1)
    remaining = {name for name in folders if name in _folders(wanted) or not _remove_empty(root / name)}
    if remaining != folders:
        _write_record(root, _pick(planned, {*kept, *to_add}, remaining))
    return changes


def _folders(wanted: Mapping[str, Path]) -> set[str]:
    return {name.partition("/")[0] for name in wanted}


def _plan_entries(wanted: Mapping[str, Path], copy: bool) -> FolderRecord:
    if not copy:
        return FolderRecord(links={name: str(original) for name, original in wanted.items()})
    copies = {}
    for name, original in wanted.items():
        status = original.stat()
        copies[name] = Copy(str(original), status.st_size, status.st_mtime_ns)
    return FolderRecord(copies=copies)


def _entry(record: FolderRecord, name: str) -> str | Copy | None:
    return record.links.get(name) or record.copies.get(name)


def _pick(record: FolderRecord, names: set[str], folders: set[str]) -> FolderRecord:
    return FolderRecord(
        folders=tuple(sorted(folders)),
        links={name: target for name, target in record.links.items() if name in names},
        copies={name: entry for name, entry in record.copies.items() if name in names},
    )


def _is_own(path: Path, record: FolderRecord, name: str) -> bool:
    """Return whether a file is what the record says: the same link, or a copy of the same size and time."""
    if path.parent.is_symlink():
        return False
    status = path.lstat()
    if name in record.links:
        return stat.S_ISLNK(status.st_mode) and os.readlink(path) == record.links[name]  # noqa: PTH115 - keeps the text
    copy = record.copies[name]
    same_time = abs(status.st_mtime_ns - copy.mtime_ns) <= TIME_STEP
    return stat.S_ISREG(status.st_mode) and status.st_size == copy.size and same_time


def _original_remains(path: Path, copy: Copy) -> bool:
    """Return whether the original of a copy is another file of the same bytes, so that removing the copy loses none."""
    original = Path(copy.original)
    try:
        return not original.samefile(path) and _read(original) == _read(path)
    except (OSError, ReadError):
        return False


def _read(path: Path) -> bytes:
    return read_bytes(path, MAX_IMAGE_BYTES)


def _place(path: Path, original: Path, copy: bool) -> None:
    if copy:
        content, status = _read(original), original.stat()
        with atomic_write(path) as part:
            part.write_bytes(content)
            os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))
        return
    try:
        path.symlink_to(original)
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LINKS:
            raise
        raise InputError(
            (f"links cannot be made in {path.parent.parent}: {error}; add ", Argument("copy", True))
        ) from None


def _remove_empty(folder: Path) -> bool:
    """Remove a folder if it is empty; return whether it is gone."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # not empty
        return False
    return True


def _write_record(root: Path, record: FolderRecord) -> None:
    write_text(root / RECORD, json.dumps(to_plain(record), ensure_ascii=False, indent=0) + "\n")
