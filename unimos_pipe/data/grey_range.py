"""Conversion of grey images of more than 8 bits: integers and floats of any range to 0..255.

The range is that of the file's format (PNG, PGM) or tags (TIFF). Otherwise it is a usual one, by the 99.9th percentile
of the values, so that a few values beyond it do not change the scale of all others.
"""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

USUAL_TOPS = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)  # of 8, 10, 12, 14 and 16 bits
OVERSHOOT = 1.1  # times a usual top, which interpolated and noisy values reach
LOW_PERCENTILE, HIGH_PERCENTILE = 0.1, 99.9
BLOCK_VALUES = 1 << 20  # pixels that are scaled at a time
BITS, BANDS, LOWEST, HIGHEST, FLOAT_LOWEST, FLOAT_HIGHEST = 258, 277, 280, 281, 340, 341  # TIFF tags


class GreyRange(NamedTuple):
    """The values that become black and white. ``guessed``: neither tags nor a usual range say so."""

    low: float
    high: float
    guessed: bool = False


GUESSED = "guessed grey range"  # key of ``Image.info`` where the range is by percentiles


def to_eight_bit(image: Image.Image, opened: Image.Image) -> Image.Image:
    """Return a grey image of mode I, F or I;16 as RGB.

    Args:
        opened: the image as it was opened, with the tags of its file.
    Raises:
        ValueError: values that are not finite.
    """
    values = np.asarray(image)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("pixel values that are not finite")
    limits = grey_range(opened, values)
    pixels = np.empty(values.shape, np.uint8)
    rows = max(1, BLOCK_VALUES // max(1, values.shape[1]))
    for start in range(0, len(values), rows):  # in blocks: float64 would take 8 bytes a pixel
        block = (values[start : start + rows].astype(np.float64) - limits.low) * 255 / (limits.high - limits.low)
        pixels[start : start + rows] = np.clip(block, 0, 255).round()
    scaled = Image.fromarray(pixels).convert("RGB")
    if limits.guessed:
        scaled.info[GUESSED] = f"{limits.low:g} to {limits.high:g}"
    return scaled


def grey_range(image: Image.Image, values: np.ndarray) -> GreyRange:
    """Return the range of an image's values, by its tags, else by a usual top, else by percentiles.

    Args:
        values: (H, W) pixels of the image, finite.
    """
    if tagged := _tagged_range(image):
        return tagged
    if image.format == "PNG" or (image.format == "PPM" and image.mode == "I"):
        return GreyRange(0, 65535)  # as PNG defines 16 bits, and as PIL scales a PGM by its own maximum
    if not values.size:
        return GreyRange(0, 255)
    ranks = [_percentile_rank(values.size, percentile) for percentile in (LOW_PERCENTILE, HIGH_PERCENTILE)]
    low, high = (float(value) for value in np.partition(values, ranks, axis=None)[ranks])
    is_float = image.mode == "F"
    if low >= 0 and is_float and high <= OVERSHOOT:
        return GreyRange(0, 1)
    if low >= -0.1 * high and (not is_float or high > USUAL_TOPS[0] / 4):
        for top in USUAL_TOPS:
            if high <= top * (OVERSHOOT if is_float else 1):
                return GreyRange(0, top)
    return GreyRange(low, high if high > low else low + 1, guessed=True)


def _percentile_rank(count: int, percentile: float) -> int:
    """Return the rank of a percentile, as numpy's method ``closest_observation`` chooses it without a float64 copy."""
    index = count * (percentile / 100) - 1.5
    lower = math.floor(index)
    return min(max(lower if index == lower and lower % 2 else lower + 1, 0), count - 1)


def _tagged_range(image: Image.Image) -> GreyRange | None:
    """Return the range in the tags of a TIFF, or None. A 16-bit file's BitsPerSample says nothing of its values."""
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return None
    for low_tag, high_tag in ((FLOAT_LOWEST, FLOAT_HIGHEST), (LOWEST, HIGHEST)):
        high = _number(tags.get(high_tag))
        low = _number(tags.get(low_tag)) or 0.0
        if high is not None and high > low:
            return GreyRange(low, high)
    bits = _number(tags.get(BITS))
    return GreyRange(0, 2**bits - 1) if bits in (10, 12, 14) else None


def _number(value: object) -> float | None:
    """Return a tag's value, or the first of several, as a finite number."""
    if isinstance(value, tuple) and value:
        value = value[0]
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if np.isfinite(number) else None
