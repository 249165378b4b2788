"""Small JPEGs of photos, kept in the cache folder so that a second look decodes nothing."""

import hashlib
from pathlib import Path

from unimos_pipe.base.atomic_io import atomic_write
from unimos_pipe.base.errors import ReadError
from unimos_pipe.base.safe_open import MAX_IMAGE_BYTES, read_bytes
from unimos_pipe.data.image_decoding import small_jpeg

FOLDER = "thumbnails"
VERSION = 1  # increased when thumbnails look different


class ThumbnailCache:
    """Thumbnails below ``<cache>/thumbnails``, by path, size and time of a photo."""

    def __init__(self, cache: Path):
        self._folder = cache / FOLDER

    def get(self, photo: Path, side: int) -> bytes:
        """Return the JPEG of a photo whose longer side is at most ``side`` pixels.

        Raises:
            ReadError, OSError, SyntaxError, ValueError: the photo cannot be read or decoded.
        """
        status = photo.stat()
        key = f"{VERSION} {side} {photo} {status.st_ino} {status.st_size} {status.st_mtime_ns}"
        name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        file = self._folder / name[:2] / f"{name[2:]}.jpg"
        try:
            return read_bytes(file, MAX_IMAGE_BYTES)
        except ReadError as error:
            if not error.absent:
                raise
        content = small_jpeg(photo, side)
        with atomic_write(file) as part:
            part.write_bytes(content)
        return content
