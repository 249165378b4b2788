"""Image inputs of a model: paths, PIL images, bytes of image files, open files, arrays."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from unimos_pipe.base.errors import InputError
from unimos_pipe.data.image_decoding import Picture, image_from_array

ImageInput = str | os.PathLike | Picture | bytes | bytearray | memoryview | BinaryIO | np.ndarray
EXPECTED = "a path, a PIL image, the bytes of an image file, a file opened for bytes, or a uint8 array (H, W, 3)"


def normalise_inputs(images: ImageInput | Iterable[ImageInput]) -> list[Path | Picture | bytes]:
    """Return a list of inputs for the decoder; a single image becomes a list of one, a string is a path.

    Raises:
        InputError: an input that is not an image; names its position.
    """
    single = isinstance(images, str | os.PathLike | Picture | bytes | bytearray | memoryview) or _ndim(images) == 3
    if single or _is_open_file(images):
        images = [images]
    if not isinstance(images, Iterable):
        raise InputError("images", expected=f"{EXPECTED}, or several of these", got=type(images).__name__)
    return [_normalise_input(image, position) for position, image in enumerate(images)]


def _normalise_input(image: ImageInput, position: int) -> Path | Picture | bytes:
    if isinstance(image, str | os.PathLike):
        check_is_path(image)
        return Path(image)
    if _is_open_file(image):
        content = image.read()
        if not isinstance(content, bytes):
            raise InputError(f"image {position}", expected="a file opened for reading bytes", got="a file of text")
        return content
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, Picture):
        return image
    if _ndim(image) == 3 and image.dtype == np.uint8 and image.shape[2] == 3 and image.size:
        return image_from_array(image)
    got = f"{image.dtype} of shape {image.shape}" if _ndim(image) is not None else type(image).__name__
    raise InputError(f"image {position}", expected=EXPECTED, got=got)


def check_is_path(image: str | os.PathLike) -> None:
    """Raise InputError for the address of a web page."""
    if re.match("(https?|ftp|s3|gs):/", os.fspath(image)):
        raise InputError(f"{image} is an address, not a file", todo="Download it and give the file, or its bytes")


def _is_open_file(image: object) -> bool:
    return hasattr(image, "read") and not isinstance(image, Picture)


def _ndim(value: object) -> int | None:
    return value.ndim if isinstance(value, np.ndarray) else None
