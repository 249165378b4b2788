"""Drawn images."""

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def draw(path: Path, shape: int, rng: np.random.Generator, dark: bool) -> None:
    """Write one 64 x 64 PNG of a shape (0 circle, 1 square, 2 bar) at a random place."""
    y, x = np.mgrid[:64, :64]
    cy, cx, size = *rng.integers(24, 40, 2), rng.integers(10, 18)
    inside = [
        (y - cy) ** 2 + (x - cx) ** 2 < size**2,
        np.maximum(abs(y - cy), abs(x - cx)) < size,
        (abs(y - cy) < 5) & (abs(x - cx) < 24),
    ][shape]
    pixels = np.where(inside[..., None], rng.integers(0, 90, 3), rng.integers(200, 255, 3)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(255 - pixels if dark else pixels).save(path)


def declared_png(width: int, height: int, data: bytes) -> bytes:
    """A PNG of 8-bit RGB that says it has this size, around any bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")
