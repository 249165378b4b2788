"""Image decoding, with EXIF rotation and transparency applied. Needs no torch, so reports can use it."""

import contextlib
import functools
import io
import math
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from unimos_pipe.base.errors import ReadError
from unimos_pipe.base.safe_open import DEFAULT_MAX_PIXELS, MAX_IMAGE_BYTES, PIXEL_LIMIT, open_regular, read_bytes
from unimos_pipe.data.grey_range import BANDS, BITS, to_eight_bit
from unimos_pipe.data.image_files import describe_tiff, icon_sizes, silence_libraries, without_large_texts

pillow_heif.register_heif_opener()

Picture = Image.Image
# Formats that PIL decodes itself. Excluded are formats decoded by another program (EPS by Ghostscript), formats without
# a decoder (WMF, GRIB, HDF5), and formats that accept almost any file.
SIGNATURE_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "AVIF", "HEIF", "BMP", "JPEG2000", "PSD", "PPM", "QOI")
FORMATS = (*SIGNATURE_FORMATS, "CUR", "DDS", "ICNS", "ICO", "PCX", "SGI", "SUN", "TGA", "XBM", "XPM")
DECODE_SECONDS = 60  # an image that takes longer is a bad one
MAX_ASPECT_RATIO = 100  # longer side to shorter side; CLIP's resize scales the shorter one and keeps the ratio
REDUCED_FROM = 89_478_485  # pixels; an image of more is decoded at a whole fraction of its size (PIL's own limit)
UNIFORM_SPREAD = 3  # of 255: an image whose values differ by less has no contrast
PIXEL_BYTES = 4  # per pixel allowed, that a decoder may hold: 8 bits of RGBA, or one band of 32
DECODER = "PIL, EXIF orientation applied, alpha on white, grey scaled to 8 bits by its range, first frame"


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
    except Image.DecompressionBombError:
        return True  # a too large image is an image
    except Exception:  # damaged headers raise anything
        return False


class _DecodingWarnings:
    """Warning filters and PIL's limit of pixels while images are read: warnings are ignored, the limit is ours.

    All threads share one list of filters. The first thread to enter sets it, the last one to leave restores it.
    """

    def __init__(self):
        self.lock, self.reading = threading.Lock(), 0
        self.before, self.limit = warnings.catch_warnings(), Image.MAX_IMAGE_PIXELS

    def __enter__(self) -> None:
        with self.lock:
            if not self.reading:
                self.before = warnings.catch_warnings()
                self.before.__enter__()
                warnings.simplefilter("ignore")
                self.limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, PIXEL_LIMIT // 2  # PIL allows twice that
            self.reading += 1

    def __exit__(self, *_) -> None:
        with self.lock:
            self.reading -= 1
            if not self.reading:
                self.before.__exit__(None, None, None)
                Image.MAX_IMAGE_PIXELS = self.limit


DECODING_WARNINGS = _DecodingWarnings()


@contextlib.contextmanager
def open_image(
    source: Path | Picture | bytes, formats: tuple[str, ...] = FORMATS, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Iterator[Picture]:
    """Open an image from a path, bytes or a PIL image; only the header is read.

    Raises:
        ValueError: more than ``max_pixels``, or a decoder that would hold more than 4 bytes for each of these.
    """
    silence_libraries()
    with DECODING_WARNINGS:
        if isinstance(source, Picture):
            yield source
            return
        content = source if isinstance(source, bytes) else read_bytes(source, MAX_IMAGE_BYTES)
        for width, height in icon_sizes(content):  # PIL decodes an icon when it opens it
            _check_pixel_count(width, height, max_pixels)
        with Image.open(io.BytesIO(without_large_texts(content)), formats=formats) as image:
            _check_pixel_count(*image.size, max_pixels)
            _check_declared_bytes(image, max_pixels)
            yield image


def _check_pixel_count(width: int, height: int, max_pixels: int) -> None:
    """Raise ValueError for more pixels than are allowed."""
    if width * height > max_pixels:
        raise ValueError(f"{width:,} x {height:,} pixels, more than {max_pixels:,}")


def _check_declared_bytes(image: Picture, max_pixels: int) -> None:
    """Raise ValueError if a decoder would hold more than 4 bytes for each pixel allowed, as for 16-bit colours."""
    size = 0
    if image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        bits = np.ravel(tags.get(BITS, 8))  # of each band, or one number for all
        size = bits.max() * max(tags.get(BANDS, 1), len(bits)) / 8
    elif image.format == "JPEG2000":
        size = 4 * len(image.getbands())
    limit = PIXEL_BYTES * max_pixels
    if image.width * image.height * size > limit:
        raise ValueError(
            f"{image.width:,} x {image.height:,} pixels of {size:g} bytes, more than the {limit / 1e6:,.0f} MB that "
            f"{max_pixels:,} pixels may take"
        )


def decode(source: Path | Picture | bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> Picture:
    """Read an image from a path, bytes or a PIL image, and return it as an upright RGB image.

    An image of more than 89 megapixels is returned at a whole fraction of its size.

    Raises:
        ReadError: the file cannot be read.
        OSError, SyntaxError, ValueError: whatever PIL finds wrong with the image; more than ``max_pixels``; or one side
            is more than 100 times the other.
    """
    with open_image(source, max_pixels=max_pixels) as image:
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
    opened, image = image, _load_reduced(image)
    image = _apply_exif_rotation(image)
    if image.mode.startswith("I") or image.mode == "F":
        return to_eight_bit(image, opened)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _load_reduced(image: Picture) -> Picture:
    """Load an opened image's pixels; above 89 megapixels at a half, a third, ... of its size, by the mean of blocks.

    A JPEG of that size is decoded at a half or a fourth, which takes less memory.
    """
    if image.width * image.height <= REDUCED_FROM:
        image.load()
        return image
    factor = math.ceil(math.sqrt(image.width * image.height / REDUCED_FROM))
    if image.format in ("JPEG", "MPO"):
        image.draft(None, (image.width // factor, image.height // factor))
    image.load()
    factor = math.ceil(math.sqrt(image.width * image.height / REDUCED_FROM))
    if factor == 1:
        return image
    plain = image.convert("RGBA" if "transparency" in image.info else "RGB") if image.mode in ("P", "1") else image
    if plain.mode.startswith("I;16"):
        plain = plain.convert("I")
    small = plain.reduce(factor)
    small.info = plain.info
    small.getexif().update(image.getexif())
    return small


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


def describe_error(error: Exception, source: Path | Picture | bytes) -> str:
    """Describe a decoder's error in a few words, without the path."""
    if isinstance(error, UnidentifiedImageError) and not isinstance(source, Picture):
        try:
            content = source if isinstance(source, bytes) else read_bytes(source, MAX_IMAGE_BYTES)
        except ReadError as unread:
            return unread.reason
        with DECODING_WARNINGS:
            return describe_tiff(content) or ("not an image of a known format" if content else "an empty file")
    if isinstance(error, ReadError):
        return error.reason
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text.replace(str(source), 'the file') if isinstance(source, Path) else text}"
