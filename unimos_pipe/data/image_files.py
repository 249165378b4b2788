"""Contents of image files beside their pixels: large texts and profiles of PNGs, and what an unread TIFF holds."""

import contextlib
import ctypes
import ctypes.util
import functools
import io
import logging
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import PIL
from PIL import TiffImagePlugin

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_TEXT_BYTES = 500_000  # of a text or profile in a PNG, decompressed; PIL refuses the image above 1 MB
MAX_ALL_TEXTS = 8_000_000  # of all together
_COMPRESSED_FROM = {b"zTXt": 2, b"iCCP": 2, b"iTXt": 3}  # bytes after the keyword's end, at most
_TEXTS = (b"tEXt", *_COMPRESSED_FROM)
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ICON_HEADS = (b"\0\0\1\0", b"\0\0\2\0", b"icns")
_SAMPLE_KINDS = {1: "integers", 2: "signed integers", 3: "floats", 5: "complex integers", 6: "complex floats"}


def without_large_texts(content: bytes) -> bytes:
    """Return a PNG file without texts and profiles of more than 0.5 MB; other files are returned as they are.

    They do not change the decoded pixels, and PIL refuses an image that has one.
    """
    if not content.startswith(PNG_SIGNATURE):
        return content
    dropped, total = [], 0
    for kind, start, stop in _png_chunks(content):
        if kind in _TEXTS:
            size = _text_size(kind, content[start + 8 : stop - 4])
            total += size
            if size > MAX_TEXT_BYTES or total > MAX_ALL_TEXTS:
                dropped.append((start, stop))
    for start, stop in reversed(dropped):
        content = content[:start] + content[stop:]
    return content


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, first byte and end of each whole chunk."""
    position = len(PNG_SIGNATURE)
    while position + 12 <= len(content):
        stop = position + 12 + int.from_bytes(content[position : position + 4])
        if stop > len(content):
            return
        yield content[position + 4 : position + 8], position, stop
        position = stop


def _text_size(kind: bytes, data: bytes) -> int:
    """Return the decompressed size of a text chunk, or a number above the limit."""
    if kind == b"tEXt" or len(data) > MAX_TEXT_BYTES:
        return len(data)
    position = data.find(b"\0") + _COMPRESSED_FROM[kind]
    if kind == b"iTXt":  # keyword, compression flag and method, language, translated keyword
        if data[position - 2 : position - 1] != b"\1":
            return len(data)
        position = data.find(b"\0", data.find(b"\0", position) + 1) + 1
    with contextlib.suppress(zlib.error):
        return len(zlib.decompressobj().decompress(data[position:], MAX_TEXT_BYTES + 1))
    return len(data)


def icon_sizes(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield the declared (width, height) of PNG and JPEG 2000 images within an icon; nothing for other files."""
    if not content.startswith(_ICON_HEADS):
        return
    for match in re.finditer(rb"(IHDR|ihdr)(.{4})(.{4})", content, re.DOTALL):
        yield int.from_bytes(match[2]), int.from_bytes(match[3])


def describe_tiff(content: bytes) -> str | None:
    """Return what an unreadable TIFF holds, such as "5 bands of 16-bit integers"; None for other files."""
    if content[:4] not in _TIFF_HEADS:
        return None
    try:
        table = TiffImagePlugin.ImageFileDirectory_v2(content[: 16 if content[2:3] == b"+" else 8])
        file = io.BytesIO(content)
        file.seek(table.next)
        table.load(file)
        bands, bits, kind = int(table.get(277, 1)), table.get(258, (1,)), table.get(339, (1,))
        bits, kind = (value[0] if isinstance(value, tuple) else value for value in (bits, kind))
        width, height = int(table[256]), int(table[257])
    except Exception:  # a damaged table raises many types
        return "a damaged or cut TIFF"
    if bits == 8 and bands <= 4:  # which is read, if it is whole
        return "a damaged or cut TIFF"
    layout = f"{bands} band{'s' if bands > 1 else ''} of {bits}-bit {_SAMPLE_KINDS.get(kind, 'samples')}"
    return f"a TIFF of {width} x {height} pixels with {layout}; read are 8-bit colours and one band of up to 32 bits"


@functools.cache
def silence_libraries() -> None:
    """Stop libtiff and PIL from writing to stderr about damaged files; PIL raises an error for them all the same."""
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # without any handler, errors go to stderr
    bundled = sorted((Path(PIL.__path__[0]).parent / "pillow.libs").glob("libtiff*.so*"))
    name = str(bundled[0]) if bundled else ctypes.util.find_library("tiff")
    with contextlib.suppress(OSError, AttributeError):
        if name:
            library = ctypes.CDLL(name)
            for setter in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
                function = getattr(library, setter)
                function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
                function(None)
