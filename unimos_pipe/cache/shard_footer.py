"""The index at the end of a shard, read without the rest of the file and without verifying its digest.

What is found so is a hint. Who uses a row reads the whole shard, which :func:`read_image_shard` verifies.
"""

import json
import math
import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from unimos_pipe.base.safe_open import MAX_ARRAY_BYTES, open_regular
from unimos_pipe.data.file_digests import DIGEST_BYTES

DTYPE = re.compile(r"[<|][fiuS]\d+")  # numpy's name of a number or of bytes
FOOTER_BYTES = 8 + DIGEST_BYTES  # bytes of the index's length and of the file's digest
# What json and numpy raise of bytes that are no shard's. Not: OSError, MemoryError.
OF_CONTENTS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


def find_features(path: Path) -> tuple[int, tuple[int, int]] | None:
    """Return the offset and the shape (n, D) of an image shard's features, or None if the shard is damaged.

    The digest is not verified. :func:`read_image_shard` reports the damage.
    """
    try:
        with open_regular(path, MAX_ARRAY_BYTES) as file:
            kind, (rows, dim), offset = read_footer(file)["arrays"]["image_features"]
            within_file = kind == "<f2" and min(rows, dim, offset) >= 0 and offset + 2 * rows * dim <= file.seek(0, 2)
    except OF_CONTENTS:
        return None
    return (offset, (rows, dim)) if within_file else None


def read_contents(path: Path) -> list[bytes]:
    """Return the content digest of each row of an image shard; empty if the shard is damaged.

    Raises:
        ReadError: the file cannot be read.
    """
    try:
        with open_regular(path, MAX_ARRAY_BYTES) as file:
            dtype, (rows, width), offset = read_footer(file)["arrays"]["contents"]
            if (dtype, width) != ("|u1", DIGEST_BYTES) or not 0 < offset <= file.seek(0, 2) - rows * width:
                return []
            file.seek(offset)
            contents = view_array(file.read(rows * width), dtype, [rows, width], 0)
            return contents.view(f"V{width}").ravel().tolist()
    except OF_CONTENTS:
        return []


def read_footer(file: BinaryIO) -> dict:
    """Return the index at the end of a shard, without verifying the digest."""
    size = file.seek(0, 2)
    file.seek(max(0, size - FOOTER_BYTES))
    length = min(int.from_bytes(file.read(8), "little"), max(0, size - FOOTER_BYTES))
    file.seek(max(0, size - FOOTER_BYTES - length))
    return json.loads(file.read(length))


def view_array(content: bytes, kind: str, shape: list[int], offset: int) -> np.ndarray:
    """Return a view of an array in a shard's bytes. Raises ValueError if it is out of bounds."""
    count = math.prod(shape)
    if not DTYPE.fullmatch(kind) or offset < 0 or min(shape, default=0) < 0:  # numpy evaluates longer descriptions
        raise ValueError(f"no array of a shard: {kind} {shape} at {offset}")
    dtype = np.dtype(kind)
    return np.frombuffer(content, dtype, count, offset).reshape(shape) if count else np.empty(shape, dtype)
