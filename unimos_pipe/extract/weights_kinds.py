"""Detection of files that are not weights, or are incomplete."""

import json
import zipfile
from pathlib import Path

from unimos_pipe.base.errors import InputError, join_names
from unimos_pipe.base.safe_open import MAX_SETTINGS_BYTES, open_regular

HEAD = 512  # bytes that identify the kind of a file
MAX_WEIGHTS_BYTES = 2**40
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<body")
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"Rar!": "RAR",
    b"\x28\xb5\x2f\xfd": "Zstandard",
}
_OTHERS = {
    b"\x89HDF\r\n": "an HDF5 file",
    b"GGUF": "a GGUF file of a language model",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF document",
}
_AGAIN = "download it again"


def check_kind(path: Path) -> None:
    """Check the first bytes of a weights file, and the directory of an archive.

    Raises:
        InputError: it is not a weights file or is incomplete; says what it is and what to do.
        ReadError: it cannot be read.
    """
    with open_regular(path, MAX_WEIGHTS_BYTES) as file:
        size, head = file.seek(0, 2), b""
        file.seek(0)
        head = file.read(HEAD)
        if detected := _detect_text(head, size) or _detect_binary(head):
            kind, todo = detected
            raise InputError(f"weights {path} are {kind}", todo=todo[:1].upper() + todo[1:])
        if head.startswith(b"PK\x03\x04"):
            _check_archive(path, file)
        elif path.suffix == ".safetensors":
            file.seek(0)
            _check_safetensors(path, file, size)


def _detect_text(head: bytes, size: int) -> tuple[str, str] | None:
    """Return the kind of a text file and what to do, or None."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not size:
        return "an empty file", _AGAIN
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer to the file", "fetch the file itself: git lfs pull"
    if start.startswith(_PAGES):
        return "a web page (HTML), as a download gives that asks for a login", "download the file itself"
    if start.startswith((b"<?xml", b"<error")):
        return "XML, as a store's error message is", "download the file itself"
    if start[:1] in (b"{", b"[") and b"\0" not in head:
        return "JSON text", "give the file of tensors that lies beside it"
    return None


def _detect_binary(head: bytes) -> tuple[str, str] | None:
    for mark, name in _PACKED.items():
        if head.startswith(mark):
            return f"a {name} archive", "unpack it, and give the file in it"
    if head[257:262] == b"ustar":
        return "a tar archive", "unpack it, and give the file in it"
    return next(((name, "give a file of weights") for mark, name in _OTHERS.items() if head.startswith(mark)), None)


def _check_archive(path: Path, file) -> None:
    """Raise InputError unless a zip file is complete and holds tensors of torch or arrays of numpy."""
    if not zipfile.is_zipfile(file):
        raise InputError(
            f"weights {path} are cut off, half a download ({file.seek(0, 2):,} bytes)", todo="Download it again"
        )
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    if path.suffix == ".npz" or any(name.endswith("data.pkl") for name in names):
        return
    inside = join_names(names, 3)
    raise InputError(
        f"weights {path} are a zip archive of other files ({inside})", todo="Unpack it, and give the file in it"
    )


def _check_safetensors(path: Path, file, size: int) -> None:
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_SETTINGS_BYTES:
        raise InputError(
            f"weights {path} are no safetensors, whatever the name says", todo="Give it the ending of its kind"
        )
    head = file.read(length)
    try:
        ends = [entry["data_offsets"][1] for name, entry in json.loads(head).items() if name != "__metadata__"]
        wanted = 8 + length + max(ends, default=0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        wanted = 8 + length + 1 if len(head) < length else 0
    if wanted > size:
        raise InputError(
            f"weights {path} are cut off, half a download ({size:,} of {wanted:,} bytes)", todo="Download it again"
        )
