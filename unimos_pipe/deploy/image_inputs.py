"""Image inputs of a model: paths, PIL images, bytes of image files, arrays."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from unimos_pipe.base.errors import InputError
from unimos_pipe.data.image_decoding import Picture, image_from_array

ImageInput = str | os.PathLike | Picture | bytes | bytearray | memoryview | np.ndarray
EXPECTED = "a path, a PIL image, the bytes of an image file, or a uint8 array (H, W, 3)"


def normalise_inputs(images: ImageInput | Iterable[ImageInput]) -> list[Path | Picture | bytes]:
    """Return a list of inputs for the decoder; a single image becomes a list of one, a string is a path.

    Raises:
        InputError: an input that is not an image; names its position.
    """
    if isinstance(images, str | os.PathLike | Picture | bytes | bytearray | memoryview) or _ndim(images) == 3:
        images = [images]
    if not isinstance(images, Iterable):
        raise InputError("images", expected=f"{EXPECTED}, or several of these", got=type(images).__name__)
    return [_normalise_input(image, position) for position, image in enumerate(images)]


def _normalise_input(image: ImageInput, position: int) -> Path | Picture | bytes:
    if isinstance(image, str | os.PathLike):
        return Path(image)
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, Picture):
        return image
    if _ndim(image) == 3 and image.dtype == np.uint8 and image.shape[2] == 3 and image.size:
        return image_from_array(image)
    got = f"{image.dtype} of shape {image.shape}" if _ndim(image) is not None else type(image).__name__
    raise InputError(f"image {position}", expected=EXPECTED, got=got)


def _ndim(value: object) -> int | None:
    return value.ndim if isinstance(value, np.ndarray) else None
