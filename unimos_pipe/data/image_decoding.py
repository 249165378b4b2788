"""Image decoding, with EXIF rotation and transparency applied. Needs no torch, so reports can use it."""

import contextlib
import functools
import io
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from unimos_pipe.base.errors import ReadError
from unimos_pipe.base.safe_open import MAX_IMAGE_BYTES, open_regular, read_bytes

pillow_heif.register_heif_opener()

Picture = Image.Image
# Formats that PIL decodes itself. Excluded are formats decoded by another program (EPS by Ghostscript), formats without
# a decoder (WMF, GRIB, HDF5), and formats that accept almost any file.
SIGNATURE_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF", "HEIF", "BMP", "JPEG2000", "PSD", "PPM", "QOI")
FORMATS = (*SIGNATURE_FORMATS, "CUR", "DDS", "ICNS", "ICO", "PCX", "SGI", "SUN", "TGA", "XBM", "XPM")
DECODE_SECONDS = 60  # an image that takes longer is a bad one
MAX_ASPECT_RATIO = 100  # longer side to shorter side; CLIP's resize scales the shorter one and keeps the ratio
DECODER = "PIL, EXIF orientation applied, alpha on white, 16 bit and float scaled to 8, first frame"


@functools.cache
def image_suffixes() -> frozenset[str]:
    """Return the suffixes of supported formats, in lower case with their dot."""
    formats = {*FORMATS, "DIB", "MPO"}  # which PIL opens as BMP and JPEG
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def has_image_header(path: Path) -> bool:
    """Return True if a file has the header of an image, whatever its name. Nothing is decoded."""
    try:
        with DECODING_WARNINGS, open_regular(path, sys.maxsize) as file, Image.open(file, formats=SIGNATURE_FORMATS):
            return True
    except ReadError as error:
        if not error.lasting:
            raise
        return False
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return True  # a too large image is an image
    except Exception:  # damaged headers raise anything
        return False


class _DecodingWarnings:
    """Warning filters while images are read: decompression-bomb warnings are raised, others are ignored.

    All threads share one list of filters. The first thread to enter sets it, the last one to leave restores it.
    """

    def __init__(self):
        self.lock, self.reading = threading.Lock(), 0
        self.before = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self.lock:
            if not self.reading:
                self.before = warnings.catch_warnings()
                self.before.__enter__()
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
            self.reading += 1

    def __exit__(self, *_) -> None:
        with self.lock:
            self.reading -= 1
            if not self.reading:
                self.before.__exit__(None, None, None)


DECODING_WARNINGS = _DecodingWarnings()


@contextlib.contextmanager
def open_image(source: Path | Picture | bytes, formats: tuple[str, ...] = FORMATS) -> Iterator[Picture]:
    """Open an image from a path, bytes or a PIL image; only the header is read."""
    with DECODING_WARNINGS:
        if isinstance(source, Picture):
            yield source
            return
        content = source if isinstance(source, bytes) else read_bytes(source, MAX_IMAGE_BYTES)
        with Image.open(io.BytesIO(content), formats=formats) as image:
            yield image


def decode(source: Path | Picture | bytes) -> Picture:
    """Read an image from a path, bytes or a PIL image, and return it as an upright RGB image.

    Raises:
        ReadError: the file cannot be read.
        OSError, SyntaxError, ValueError: whatever PIL finds wrong with the image, decompression bombs included; or one
            side is more than 100 times the other.
    """
    with open_image(source) as image:
        return to_rgb(image)


def small_jpeg(source: Path | Picture | bytes, side: int) -> bytes:
    """Return an image as an upright JPEG whose longer side is at most ``side`` pixels. Raises as :func:`decode`."""
    with open_image(source) as image:
        image.draft("RGB", (side, side))  # JPEGs are decoded at a fraction of their size, at least this one
        small = to_rgb(image)
    small.thumbnail((side, side))
    data = io.BytesIO()
    small.save(data, "JPEG", quality=82)
    return data.getvalue()


def to_rgb(image: Picture) -> Picture:
    """Convert an opened image as :func:`decode` does. Raises what that raises."""
    check_aspect_ratio(*image.size)
    image.load()
    image = _apply_exif_rotation(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _to_eight_bit(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def image_from_array(pixels: np.ndarray) -> Picture:
    """Return a PIL image of (H, W, 3) uint8 pixels."""
    return Image.fromarray(pixels)


def check_aspect_ratio(width: int, height: int) -> None:
    """Raise ValueError if one side is more than 100 times the other."""
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ValueError(f"{width} x {height} pixels: one side is more than {MAX_ASPECT_RATIO} times the other")


def has_exif_rotation(image: Picture) -> bool:
    """Return True if EXIF or XMP orientation is not upright; unreadable metadata counts as upright."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception:  # damaged EXIF raises many types; viewers ignore it
        return False


def _apply_exif_rotation(image: Picture) -> Picture:
    """Return the image with its EXIF orientation applied."""
    if not has_exif_rotation(image):
        return image
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # as in has_exif_rotation
        return image


def _to_eight_bit(image: Image.Image) -> Image.Image:
    """Convert grey images of more than 8 bits to RGB.

    "I;16" modes are scaled by their 16 bits, 32-bit and float images by their range of values.
    """
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("pixel values that are not finite")
    top = values.max(initial=0)
    if image.mode == "F" and top <= 1:
        values = values * 255
    elif image.mode.startswith("I;16") or top > 255:
        values = values / 257
    return Image.fromarray(np.clip(values, 0, 255).round().astype(np.uint8)).convert("RGB")


def describe_error(error: Exception, source: Path | Picture | bytes) -> str:
    """Describe a decoder's error in a few words, without the path."""
    if isinstance(error, UnidentifiedImageError) and not isinstance(source, Picture):
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        return "not an image of a known format" if size else "an empty file"
    if isinstance(error, ReadError):
        return error.reason
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text.replace(str(source), 'the file') if isinstance(source, Path) else text}"
