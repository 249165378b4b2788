"""Names of class folders and links: valid on every file system, unique without regard to case."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

MAX_BYTES = 180  # of a name in UTF-8; file systems allow 255
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def folder_names(classes: Iterable[str], reserved: Iterable[str]) -> dict[str, str]:
    """Return a folder name for each class; none equals another or a reserved one, without regard to case."""
    taken = {_key(name) for name in reserved}
    names = {}
    for class_name in classes:
        names[class_name] = _unique(safe_folder_name(class_name), taken)
    return names


def safe_folder_name(name: str) -> str:
    """Return a class name as a folder name.

    Separators, control characters and characters that Windows refuses become ``_``, and so do leading dots and trailing
    dots and spaces. Device names of Windows get a ``_``. Long names are cut.
    """
    safe = "".join("_" if char in '/\\:*?"<>|' or unicodedata.category(char)[0] == "C" else char for char in name)
    safe = re.sub(r"^\.+|[. ]+$", lambda match: "_" * len(match[0]), safe.lstrip())
    safe = _cut(safe)
    return f"{safe}_" if not safe or safe.partition(".")[0].lower() in _DEVICES else safe


def link_names(paths: Iterable[str]) -> dict[str, str]:
    """Return a file name for each path, unique among all of them.

    It is the path's own last name where no other path has it, else the whole path with ``_`` for ``/``. It does not
    depend on the class, so that a correction moves a link without renaming it.
    """
    paths = list(paths)
    counts = Counter(_key(PurePosixPath(path).name) for path in paths)
    taken = {key for key, count in counts.items() if count == 1}
    names = {}
    for path in sorted(paths):
        name = PurePosixPath(path).name
        flat = "_".join(PurePosixPath(path).parts)
        names[path] = name if counts[_key(name)] == 1 else _unique(_cut_front(flat), taken)
    return names


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _unique(name: str, taken: set[str]) -> str:
    """Return the name, with a number before its suffix if it is taken; it is then taken."""
    stem, suffix = _split(name)
    unique, number = name, 2
    while _key(unique) in taken:
        unique, number = f"{stem}-{number}{suffix}", number + 1
    taken.add(_key(unique))
    return unique


def _split(name: str) -> tuple[str, str]:
    suffix = PurePosixPath(name).suffix
    return (name[: -len(suffix)], suffix) if suffix and len(suffix) <= 6 else (name, "")


def _cut(name: str) -> str:
    """Return the beginning of a long name with a digest of the whole."""
    if len(name.encode()) <= MAX_BYTES:
        return name
    return f"{_decode(name.encode()[: MAX_BYTES - 9])}-{_digest(name)}"


def _cut_front(name: str) -> str:
    """Return the end of a long name, with a digest of the whole before it."""
    if len(name.encode()) <= MAX_BYTES:
        return name
    return f"{_digest(name)}-{_decode(name.encode()[-(MAX_BYTES - 9) :])}"


def _decode(part: bytes) -> str:
    return part.decode("utf-8", "ignore")


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]
