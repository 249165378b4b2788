"""Image files as a viewer shows them. Needs no torch, so that a report can show thumbnails."""

import contextlib
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

Picture = Image.Image
MOST_ELONGATED = 100  # of an image's longer side to its shorter: CLIP's resize keeps it, and scales the shorter one
DECODER = "PIL, EXIF orientation applied, alpha on white, 16 bit and float scaled to 8, first frame"


def blank() -> Picture:
    """The smallest image there is."""
    return Image.new("RGB", (1, 1))


def decode(source: Path | Picture) -> Picture:
    """Read an image, from a file or as PIL has it open, the way a viewer shows it, as RGB: by its contents alone.

    Raises:
        OSError, SyntaxError, ValueError: whatever PIL finds wrong with the file, decompression bombs included; or one
            side is more than 100 times the other.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with contextlib.nullcontext(source) if isinstance(source, Picture) else Image.open(source) as image:
            width, height = image.size
            if max(width, height) > MOST_ELONGATED * min(width, height):
                raise ValueError(f"{width} x {height} pixels: one side is more than {MOST_ELONGATED} times the other")
            image.load()
            image = _upright(image)
            if image.mode.startswith("I") or image.mode == "F":
                return _eight_bit(image)
            if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            return image if image.mode == "RGB" else image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says; an EXIF block that cannot be read turns nothing."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF raises anything from struct.error to KeyError, and viewers pass over it
        return image


def _eight_bit(image: Image.Image) -> Image.Image:
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


def reason_of(error: Exception, source: Path | Picture) -> str:
    """What a decoder raised about an image, in a few words that do not repeat its path."""
    if isinstance(error, UnidentifiedImageError) and isinstance(source, Path):
        return "an empty file" if source.stat().st_size == 0 else "not an image of a known format"
    return f"{type(error).__name__}: {' '.join(str(error).split()).replace(str(source), 'the file')}"
