"""Search for images in folders; other files are counted by reason and suffix."""

import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unimos_pipe.base.errors import PATH_FAULTS, InputError, ReadError, join_names
from unimos_pipe.base.safe_open import file_kind
from unimos_pipe.data.image_decoding import has_image_header, image_suffixes

VIDEO_SUFFIXES = frozenset(
    (".mov", ".mp4", ".m4v", ".avi", ".mkv", ".webm", ".3gp", ".mpg", ".mpeg", ".mts", ".m2ts", ".wmv", ".flv", ".hevc")
)
RAW_SUFFIXES = frozenset((".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"))
# Folders and files of archives, network drives and systems, with thumbnails and deleted files.
SYSTEM_NAMES = frozenset((
    "__macosx", "@eadir", "#recycle", "@recycle", "@recently-snapshot", "#snapshot", "@tmp", "$recycle.bin", "recycler",
    "system volume information", "lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini", "network trash folder",
    "temporary items",
))  # fmt: skip


@dataclass(frozen=True)
class ImageScan:
    """The images below a folder, and counts of skipped files.

    ``paths``: POSIX paths relative to the folder, sorted folder by folder. ``skipped``: number of files by
    (reason, suffix), the suffix in lower case with its dot.
    """

    paths: tuple[str, ...]
    skipped: Counter[tuple[str, str]]


def find_images(folder: Path) -> ImageScan:
    """Find the images in a folder and its subfolders.

    An image is a regular file with the suffix of a supported format, or with an unknown suffix and the first bytes of
    such a format. Links are followed to any place. Links to a parent folder, hidden files and hidden folders are
    skipped.

    Raises:
        InputError: the folder itself cannot be read.
        ReadError: a file or subfolder cannot be read for a transient reason.
    """
    paths: list[str] = []
    skipped: Counter[tuple[str, str]] = Counter()
    pending: list[tuple[str, frozenset]] = [("", frozenset())]  # a path, and the ids of its parent folders
    while pending:
        path, ancestors = pending.pop()
        full_path = folder / path
        suffix = Path(path).suffix.lower()
        if reason := _hidden_reason(path.rpartition("/")[2]):
            skipped[reason, suffix] += 1
            continue
        try:
            status = full_path.stat()
            if stat.S_ISDIR(status.st_mode):
                folder_id = (status.st_dev, status.st_ino)
                if folder_id in ancestors:
                    skipped["folder that links to itself", ""] += 1
                    continue
                names = sorted((child.name for child in full_path.iterdir()), reverse=True)
                pending += [(f"{path}/{name}" if path else name, ancestors | {folder_id}) for name in names]
                continue
        except OSError as error:
            if error.errno not in PATH_FAULTS:
                raise ReadError.of(full_path, error) from None
            if not path:
                raise InputError(f"{folder} cannot be read: {error.strerror}") from None
            skipped["broken link" if full_path.is_symlink() else "cannot be read", suffix] += 1
            continue
        if reason := _non_image_reason(full_path, status.st_mode, suffix):
            skipped[reason, suffix] += 1
        else:
            paths.append(path)
    return ImageScan(tuple(paths), skipped)


def find_domain_images(folder: Path, search: Sequence[str] = (), *, listed_only: bool = False) -> ImageScan:
    """Find the images of a domain, with paths relative to its folder.

    Args:
        search: folders in it to search; empty takes the folder itself.
        listed_only: search nothing.
    Raises:
        InputError, ReadError: as :func:`find_images`.
    """
    scans = {part: find_images(folder / part) for part in search or (".",)} if not listed_only else {}
    paths = [path if part == "." else f"{part}/{path}" for part, scan in scans.items() for path in scan.paths]
    return ImageScan(tuple(dict.fromkeys(paths)), sum((scan.skipped for scan in scans.values()), Counter()))


def _hidden_reason(name: str) -> str | None:
    if name.casefold() in SYSTEM_NAMES:
        return name
    return "hidden" if name.startswith(".") else None


def is_skipped_folder(name: str) -> bool:
    """Return True if folders of this name are skipped."""
    return _hidden_reason(name) is not None


def _non_image_reason(path: Path, mode: int, suffix: str) -> str | None:
    """Return the reason why a file is not an image, or None if it is one."""
    if not stat.S_ISREG(mode):
        return file_kind(mode)
    if suffix in image_suffixes():
        return None
    if suffix in VIDEO_SUFFIXES:
        return "video"
    if suffix in RAW_SUFFIXES:
        return "camera raw"
    return None if has_image_header(path) else "not an image"


def skipped_summary(folder: Path, skipped: Counter[tuple[str, str]]) -> str | None:
    """Return a line about skipped files, such as ``DCIM: 4 left out: hidden 1, video 3 (.mov 3)``."""
    if not skipped:
        return None
    parts = []
    for reason in sorted({reason for reason, _ in skipped}):
        kinds = sorted((suffix, count) for (why, suffix), count in skipped.items() if why == reason)
        total = sum(count for _, count in kinds)
        shown = join_names((f"{suffix or 'no suffix'} {count}" for suffix, count in kinds), 6)
        parts.append(f"{reason} {total}" + (f" ({shown})" if any(suffix for suffix, _ in kinds) else ""))
    return f"{folder}: {skipped.total()} left out: {', '.join(parts)}"
