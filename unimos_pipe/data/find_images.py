"""What is an image in a folder, for every command alike; and what else lies there, counted by reason and suffix."""

import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from unimos_pipe.base.errors import PATH_FAULTS, InputError, ReadError, join_names
from unimos_pipe.base.safe_open import file_kind
from unimos_pipe.data.image_decoding import image_suffixes, starts_as_image

VIDEO = frozenset(
    (".mov", ".mp4", ".m4v", ".avi", ".mkv", ".webm", ".3gp", ".mpg", ".mpeg", ".mts", ".m2ts", ".wmv", ".flv", ".hevc")
)
RAW = frozenset((".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"))


@dataclass(frozen=True)
class ImageScan:
    """The images below a folder and what was left out there.

    ``paths``: POSIX paths relative to the folder, sorted folder by folder. ``left``: how many there are of each
    (reason, suffix), the suffix in lower case with its dot.
    """

    paths: tuple[str, ...]
    left: Counter[tuple[str, str]]


def find_images(folder: Path) -> ImageScan:
    """Look through a folder and those below it.

    An image is a regular file whose suffix is that of a format we decode, or whose suffix says nothing and whose first
    bytes are such a format's. Links are followed, wherever they lead; a link back to a folder that is being read is
    left out, as are hidden files and folders.

    Raises:
        InputError: the folder itself cannot be read.
        ReadError: anything in it cannot be read for a reason that may pass.
    """
    found: list[str] = []
    left: Counter[tuple[str, str]] = Counter()
    pending: list[tuple[str, frozenset]] = [("", frozenset())]  # a path, and the folders it lies in
    while pending:
        path, above = pending.pop()
        place = folder / path
        suffix = Path(path).suffix.lower()
        if reason := _hidden(path.rpartition("/")[2]):
            left[reason, suffix] += 1
            continue
        try:
            status = place.stat()
            if stat.S_ISDIR(status.st_mode):
                here = (status.st_dev, status.st_ino)
                if here in above:
                    left["folder that links to itself", ""] += 1
                    continue
                names = sorted((child.name for child in place.iterdir()), reverse=True)
                pending += [(f"{path}/{name}" if path else name, above | {here}) for name in names]
                continue
        except OSError as error:
            if error.errno not in PATH_FAULTS:
                raise ReadError.of(place, error) from None
            if not path:
                raise InputError(f"{folder} cannot be read: {error.strerror}") from None
            left["link that leads nowhere" if place.is_symlink() else "cannot be read", suffix] += 1
            continue
        if reason := _no_image(place, status.st_mode, suffix):
            left[reason, suffix] += 1
        else:
            found.append(path)
    return ImageScan(tuple(found), left)


def _hidden(name: str) -> str | None:
    if name == "__MACOSX":  # what macOS puts beside the files of an archive
        return name
    return "hidden" if name.startswith(".") else None


def is_skipped_folder(name: str) -> bool:
    """Whether a folder of this name is passed over."""
    return _hidden(name) is not None


def _no_image(place: Path, mode: int, suffix: str) -> str | None:
    """Why a file is taken for no image, or None if it is one."""
    if not stat.S_ISREG(mode):
        return file_kind(mode)
    if suffix in image_suffixes():
        return None
    if suffix in VIDEO:
        return "video"
    if suffix in RAW:
        return "camera raw"
    return None if starts_as_image(place) else "not an image"


def skipped_summary(folder: Path, left: Counter[tuple[str, str]]) -> str | None:
    """A line that tells what was left out of a folder, such as ``DCIM: 4 left out: hidden 1, video 3 (.mov 3)``."""
    if not left:
        return None
    parts = []
    for reason in sorted({reason for reason, _ in left}):
        kinds = sorted((suffix, count) for (why, suffix), count in left.items() if why == reason)
        total = sum(count for _, count in kinds)
        named = join_names((f"{suffix or 'no suffix'} {count}" for suffix, count in kinds), 6)
        parts.append(f"{reason} {total}" + (f" ({named})" if any(suffix for suffix, _ in kinds) else ""))
    return f"{folder}: {left.total()} left out: {', '.join(parts)}"
