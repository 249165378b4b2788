"""Conversion of grey images of more than 8 bits: integers and floats of any range to 0..255.

The range is that of the file's format (PNG, PGM) or tags (TIFF). Otherwise it is a usual one, by the 99.9th percentile
of the values, so that a few values beyond it do not change the scale of all others.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

USUAL_TOPS = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)  # of 8, 10, 12, 14 and 16 bits
OVERSHOOT = 1.1  # times a usual top, which interpolated and noisy values reach
LOW_PERCENTILE, HIGH_PERCENTILE = 0.1, 99.9
BITS, LOWEST, HIGHEST, FLOAT_LOWEST, FLOAT_HIGHEST = 258, 280, 281, 340, 341  # TIFF tags


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
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("pixel values that are not finite")
    limits = grey_range(opened, values)
    values = (values - limits.low) * 255 / (limits.high - limits.low)
    scaled = Image.fromarray(np.clip(values, 0, 255).round().astype(np.uint8)).convert("RGB")
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
    low, high = np.percentile(values, (LOW_PERCENTILE, HIGH_PERCENTILE), method="closest_observation")
    is_float = image.mode == "F"
    if low >= 0 and is_float and high <= OVERSHOOT:
        return GreyRange(0, 1)
    if low >= -0.1 * high and (not is_float or high > USUAL_TOPS[0] / 4):
        for top in USUAL_TOPS:
            if high <= top * (OVERSHOOT if is_float else 1):
                return GreyRange(0, top)
    return GreyRange(float(low), float(high) if high > low else float(low) + 1, guessed=True)


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
