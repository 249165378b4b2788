"""An image's pixels: JPEGs by torchvision's decoder where it gives what PIL does in a third of the time, else by PIL.

A plain JPEG (one or three components, 8 bits, a baseline or sequential Huffman frame, not turned) is decoded by
libjpeg-turbo in both; torchvision saves two copies of the pixels. Whether the two builds agree is tried once in a
process, on JPEGs that come with the package; where they do not, PIL reads all. So a feature never depends on who
decoded, and its key says what JPEGs come to: see :func:`decoder_name`.
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

from unimos_pipe.base.safe_open import MAX_IMAGE_BYTES, read_bytes
from unimos_pipe.data.image_decoding import DECODER, Picture, check_aspect_ratio, has_exif_rotation, open_image, to_rgb

PROBES = Path(__file__).parents[1] / "data" / "embedded" / "jpeg"
MAX_JPEG_BYTES = 1 << 27  # of a JPEG that torchvision decodes
REFERENCE_DIGEST = "b92e33e9f7f561b328f47b9ec2b98938"  # digest of the probes' pixels as libjpeg-turbo has them


def read_pixels(source: Path | Picture | bytes) -> np.ndarray:
    """(H, W, 3) uint8 of an image as :func:`unimos_pipe.data.image_decoding.decode` shows it; may not be written to.

    torchvision decodes in worker processes only: it cannot be interrupted, and what it says on stderr is caught there.

    Raises:
        ReadError, OSError, SyntaxError, ValueError: as ``decode`` does.
    """
    if isinstance(source, Path):
        source = read_bytes(source, MAX_IMAGE_BYTES)
    with open_image(source) as image:
        if get_worker_info() is not None and isinstance(source, bytes) and torchvision_agrees():
            check_aspect_ratio(*image.size)
            pixels = decode_plain_jpeg(image, source)
            if pixels is not None:
                return pixels
        return np.asarray(to_rgb(image))


def decode_plain_jpeg(image: Picture, file: bytes) -> np.ndarray | None:
    """(H, W, 3) uint8 of a plain JPEG whose header PIL has read, or None for any other image and for damaged ones."""
    if image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L") or has_exif_rotation(image):
        return None
    if len(file) > MAX_JPEG_BYTES:
        return None
    content = np.frombuffer(file, np.uint8)
    if _read_frame_size(content) != image.size:
        return None
    try:
        pixels = _decode_without_warnings(lambda: _decode_with_torchvision(content))
    except RuntimeError:  # what is wrong with it, PIL says
        return None
    return pixels if pixels is not None and pixels.shape == (image.height, image.width, 3) else None


def _decode_with_torchvision(content: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of a JPEG's bytes, without a copy."""
    pixels = torchvision.io.decode_jpeg(torch.from_numpy(content), torchvision.io.ImageReadMode.RGB)
    return pixels.permute(1, 2, 0).numpy()


def _read_frame_size(content: np.ndarray) -> tuple[int, int] | None:
    """(width, height) in the first frame header of a JPEG's bytes if it is baseline or sequential, Huffman-coded.

    Progressive and arithmetic coding, whose few bytes may ask for hours, and anything irregular before the frame: None.
    """
    position, size = 2, len(content)
    while position + 9 <= size and content[position] == 0xFF:
        marker = content[position + 1]
        if marker in (0xC0, 0xC1):
            height, width = (
                int.from_bytes(content[position + offset : position + offset + 2].tobytes()) for offset in (5, 7)
            )
            return width, height
        if 0xC0 <= marker <= 0xCF and marker != 0xC4:  # of these only C4, tables, begins no frame that others decode
            return None
        position += 2 + int.from_bytes(content[position + 2 : position + 4].tobytes())
    return None


def _decode_without_warnings(decode: Callable[[], np.ndarray]) -> np.ndarray | None:
    """What a decoder gives, or None if C code wrote to stderr meanwhile, as libjpeg does about damaged data."""
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
    """Whether torchvision is there to decode JPEGs, and gives PIL's pixels of every probe."""
    for path in sorted(PROBES.glob("*.jpg")):
        with open_image(path) as image:
            try:
                pixels = _decode_with_torchvision(np.frombuffer(read_bytes(path, MAX_IMAGE_BYTES), np.uint8))
            except (RuntimeError, AttributeError):  # built without, or of a version that no longer has it
                return False
            if not np.array_equal(pixels, np.asarray(to_rgb(image))):
                return False
    return True


@functools.cache
def decoder_name() -> str:
    """How images are decoded, for cache keys: by name, and where JPEGs do not come to what libjpeg-turbo makes of them
    by their digest as well."""
    digest = xxhash.xxh3_128()
    for path in sorted(PROBES.glob("*.jpg")):
        with open_image(path) as image:
            digest.update(np.asarray(to_rgb(image)).tobytes())
    jpeg_digest = digest.hexdigest()
    return DECODER if jpeg_digest == REFERENCE_DIGEST else f"{DECODER}; JPEGs as {jpeg_digest}"
