"""Image decoding: plain JPEGs by torchvision, which takes a third of PIL's time, other images by PIL.

A plain JPEG has one or three components of 8 bits, a baseline or sequential Huffman frame, and no rotation. PIL and
torchvision both decode it with libjpeg-turbo; torchvision saves two copies of the pixels. Each process compares the two
builds once on JPEGs of the package, and uses PIL alone if they differ. Features therefore do not depend on the decoder.
Their cache key holds :func:`decoder_name`.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision.io
import xxhash
from torch.utils.data import get_worker_info

from unimos_pipe.base.safe_open import DEFAULT_MAX_PIXELS, MAX_IMAGE_BYTES, read_bytes
from unimos_pipe.data.grey_range import GUESSED
from unimos_pipe.data.image_decoding import (
    DECODER,
    REDUCED_FROM,
    Picture,
    check_aspect_ratio,
    has_exif_rotation,
    open_image,
    to_rgb,
)

PROBES = Path(__file__).parents[1] / "data" / "embedded" / "jpeg"
MAX_JPEG_BYTES = 1 << 27  # of a JPEG that torchvision decodes
REFERENCE_DIGEST = "b92e33e9f7f561b328f47b9ec2b98938"  # digest of the probes' pixels as decoded by libjpeg-turbo


def read_pixels(
    source: Path | Picture | bytes,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    on_guess: Callable[[str], None] = lambda limits: None,
) -> np.ndarray:
    """Return read-only (H, W, 3) uint8 pixels, equal to those of :func:`unimos_pipe.data.image_decoding.decode`.

    torchvision is used in worker processes only: it cannot be interrupted, and its output on stderr must be caught.

    Args:
        on_guess: called with the range of grey values where it was guessed (:mod:`unimos_pipe.data.grey_range`).
    Raises:
        ReadError, OSError, SyntaxError, ValueError: as ``decode`` does.
    """
    if isinstance(source, Path):
        source = read_bytes(source, MAX_IMAGE_BYTES)
    with open_image(source, max_pixels=max_pixels) as image:
        if get_worker_info() is not None and isinstance(source, bytes) and torchvision_agrees():
            check_aspect_ratio(*image.size)
            pixels = decode_plain_jpeg(image, source)
            if pixels is not None:
                return pixels
        picture = to_rgb(image)
        if limits := picture.info.get(GUESSED):
            on_guess(limits)
        return np.asarray(picture)


def decode_plain_jpeg(image: Picture, file: bytes) -> np.ndarray | None:
    """Return (H, W, 3) uint8 pixels of a plain JPEG opened by PIL; None for other and for damaged images."""
    if image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L") or has_exif_rotation(image):
        return None
    if len(file) > MAX_JPEG_BYTES or image.width * image.height > REDUCED_FROM:
        return None
    content = np.frombuffer(file, np.uint8)
    if _read_frame_size(content) != image.size:
        return None
    try:
        pixels = _decode_without_warnings(lambda: _decode_with_torchvision(content))
    except RuntimeError:  # PIL reports the error
        return None
    return pixels if pixels is not None and pixels.shape == (image.height, image.width, 3) else None


def _decode_with_torchvision(content: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) uint8 pixels of a JPEG's bytes, without a copy."""
    pixels = torchvision.io.decode_jpeg(torch.from_numpy(content), torchvision.io.ImageReadMode.RGB)
    return pixels.permute(1, 2, 0).numpy()


def _read_frame_size(content: np.ndarray) -> tuple[int, int] | None:
    """Return (width, height) of a JPEG's first frame header if it is baseline or sequential, Huffman-coded.

    None for progressive and arithmetic coding, where few bytes can take hours to decode, and for irregular headers.
    """
    position, size = 2, len(content)
    while position + 9 <= size and content[position] == 0xFF:
        marker = content[position + 1]
        if marker in (0xC0, 0xC1):
            height, width = (
                int.from_bytes(content[position + offset : position + offset + 2].tobytes()) for offset in (5, 7)
            )
            return width, height
        if 0xC0 <= marker <= 0xCF and marker != 0xC4:  # frame headers of other codings; C4 holds tables
            return None
        position += 2 + int.from_bytes(content[position + 2 : position + 4].tobytes())
    return None


def _decode_without_warnings(decode: Callable[[], np.ndarray]) -> np.ndarray | None:
    """Return a decoder's pixels, or None if C code wrote to stderr, as libjpeg does for damaged data."""
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as messages, os.fdopen(os.dup(2), "wb") as stderr:
        try:
            os.dup2(write_end, 2)
            pixels = decode()
        finally:
            os.dup2(stderr.fileno(), 2)
            os.close(write_end)
        return None if messages.read(1) else pixels


@functools.cache
def torchvision_agrees() -> bool:
    """Return whether torchvision can decode JPEGs and gives PIL's pixels for all probes."""
    for path in sorted(PROBES.glob("*.jpg")):
        with open_image(path) as image:
            try:
                pixels = _decode_with_torchvision(np.frombuffer(read_bytes(path, MAX_IMAGE_BYTES), np.uint8))
            except (RuntimeError, AttributeError):  # built without libjpeg, or a version without the function
                return False
            if not np.array_equal(pixels, np.asarray(to_rgb(image))):
                return False
    return True


@functools.cache
def decoder_name() -> str:
    """Return the decoder's name for cache keys; with a digest if JPEGs decode to other pixels than libjpeg-turbo's."""
    digest = xxhash.xxh3_128()
    for path in sorted(PROBES.glob("*.jpg")):
        with open_image(path) as image:
            digest.update(np.asarray(to_rgb(image)).tobytes())
    jpeg_digest = digest.hexdigest()
    return DECODER if jpeg_digest == REFERENCE_DIGEST else f"{DECODER}; JPEGs as {jpeg_digest}"
