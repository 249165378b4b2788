"""Image files as a viewer shows them. Needs no torch, so that a report can show thumbnails."""

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
# What PIL decodes by itself. Not: formats that it hands to another program (EPS to Ghostscript), those that it has no
# decoder for (WMF, GRIB, HDF5), and those that take almost any file for theirs.
SIGNATURE_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF", "HEIF", "BMP", "JPEG2000", "PSD", "PPM", "QOI")
FORMATS = (*SIGNATURE_FORMATS, "CUR", "DDS", "ICNS", "ICO", "PCX", "SGI", "SUN", "TGA", "XBM", "XPM")
DECODE_SECONDS = 60  # an image that takes longer is a bad one
MAX_ASPECT_RATIO = 100  # of an image's longer side to its shorter: CLIP's resize keeps it, and scales the shorter one
DECODER = "PIL, EXIF orientation applied, alpha on white, 16 bit and float scaled to 8, first frame"


@functools.cache
def image_suffixes() -> frozenset[str]:
    """The suffixes of the formats that :func:`decode` reads, lower case with their dot."""
    formats = {*FORMATS, "DIB", "MPO"}  # which PIL opens as BMP and JPEG
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def has_image_header(path: Path) -> bool:
    """Whether a file's first bytes and header are an image's, whatever its name; nothing is decoded."""
    try:
        with DECODING_WARNINGS, open_regular(path, sys.maxsize) as file, Image.open(file, formats=SIGNATURE_FORMATS):
            return True
    except ReadError as error:
        if not error.lasting:
            raise
        return False
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return True  # too large an image is still one
    except Exception:  # damaged headers raise anything
        return False


class _DecodingWarnings:
    """While an image is read warnings pass unseen, but for PIL's about decompression bombs, which is raised.

    All threads share one list of filters: the first one in sets it, and the last one out puts back what there was.
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
    """An image with its header read, of a file, of a file's bytes or as PIL has it open."""
    with DECODING_WARNINGS:
        if isinstance(source, Picture):
            yield source
            return
        content = source if isinstance(source, bytes) else read_bytes(source, MAX_IMAGE_BYTES)
        with Image.open(io.BytesIO(content), formats=formats) as image:
            yield image


def decode(source: Path | Picture | bytes) -> Picture:
    """Read an image, of a file, of a file's bytes or as PIL has it open, the way a viewer shows it, as RGB.

    Raises:
        ReadError: the file cannot be read.
        OSError, SyntaxError, ValueError: whatever PIL finds wrong with the image, decompression bombs included; or one
            side is more than 100 times the other.
    """
    with open_image(source) as image:
        return to_rgb(image)


def to_rgb(image: Picture) -> Picture:
    """An image with its header read as :func:`decode` gives it. Raises what that raises."""
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
    """(H, W, 3) uint8 as PIL has it."""
    return Image.fromarray(pixels)


def check_aspect_ratio(width: int, height: int) -> None:
    """Raise ValueError where one side is more than 100 times the other."""
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ValueError(f"{width} x {height} pixels: one side is more than {MAX_ASPECT_RATIO} times the other")


def has_exif_rotation(image: Picture) -> bool:
    """Whether EXIF or XMP say that an image is to be turned; what cannot be read turns nothing."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception:  # damaged EXIF raises anything from struct.error to KeyError, and viewers pass over it
        return False


def _apply_exif_rotation(image: Picture) -> Picture:
    """The image turned as its EXIF orientation says."""
    if not has_exif_rotation(image):
        return image
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # as in has_exif_rotation
        return image


def _to_eight_bit(image: Image.Image) -> Image.Image:
    """Grey values of more than 8 bits as RGB: "I;16" is 16 bits wide, 32-bit and float images as their range says."""
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
    """What a decoder raised about an image, in a few words that do not repeat its path."""
    if isinstance(error, UnidentifiedImageError) and not isinstance(source, Picture):
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        return "not an image of a known format" if size else "an empty file"
    if isinstance(error, ReadError):
        return error.reason
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text.replace(str(source), 'the file') if isinstance(source, Path) else text}"
