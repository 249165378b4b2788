"""Thumbnails of target images, if the images are available."""

import base64
from pathlib import Path

from unimos_pipe.base.errors import ReadError
from unimos_pipe.data.image_decoding import small_jpeg

THUMBNAIL = 112  # pixels


def encode_thumbnail(folder: Path, path: str) -> str:
    """Return a small JPEG of an image as a ``data:`` URL; empty if it cannot be read or lies outside the folder."""
    try:
        file = (folder / path).resolve()
    except (OSError, RuntimeError):  # links that form a loop
        return ""
    if not file.is_relative_to(folder.resolve()):
        return ""
    try:
        content = small_jpeg(file, THUMBNAIL)
    except ReadError as error:
        if not error.lasting:
            raise
        return ""
    except Exception:  # decoders raise any type; the row is then shown without an image
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()
