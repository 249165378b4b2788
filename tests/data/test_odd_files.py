"""Odd files, made here: each is decoded, or refused with a reason in a line; none hangs, crashes or runs a program."""

import os
import zlib

import numpy as np
import pytest
from factories.images import declared_png
from PIL import Image

from unimos_pipe.base.errors import ReadError
from unimos_pipe.data.image_decoding import decode, describe_error

FORMATS = {
    "JPEG": "jpg jpeg jpe jfif", "PNG": "png", "GIF": "gif", "WEBP": "webp", "TIFF": "tif tiff", "AVIF": "avif",
    "HEIF": "heic heif", "BMP": "bmp", "JPEG2000": "jp2 j2k", "PPM": "ppm pgm", "TGA": "tga", "ICO": "ico",
    "PCX": "pcx", "SGI": "sgi", "DDS": "dds", "QOI": "qoi",
}  # fmt: skip
NAMED = [(suffix, name) for name, suffixes in FORMATS.items() for suffix in suffixes.split()]
MODES = ["1", "L", "LA", "P", "RGBA", "I", "F", "I;16", "CMYK"]


REFUSED = {
    "nothing": (b"", "an empty file"),
    "text": (b"hello", "not an image of a known format"),
    "zeros": (bytes(5000), "not an image of a known format"),
    "html": (b"<html>404</html>", "not an image of a known format"),
    "an EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) print\n", "not an image of a known format"),
    "a PDF": (b"%PDF-1.4\n", "not an image of a known format"),
    "a film": (b"\0\0\0\x14ftypqt  " + bytes(64), "not an image of a known format"),
    "a ZIP": (b"PK\3\4" + bytes(64), "not an image of a known format"),
    "a pickle": (b"cos\nsystem\n(S'true'\ntR.", "not an image of a known format"),
    "a drawing": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image of a known format"),
    "a bomb": (
        declared_png(40_000, 40_000, zlib.compress(b"")),
        "DecompressionBombError: Image size (1600000000 ",
    ),
    "a ribbon": (
        declared_png(30_000, 1, zlib.compress(b"")),
        "ValueError: 30000 x 1 pixels: one side is more than 100 times",
    ),
    "no pixels": (declared_png(9, 9, zlib.compress(b"")), "OSError: "),
    "no deflate": (declared_png(9, 9, b"xyz"), ""),
    "no width": (declared_png(0, 9, zlib.compress(b"")), ""),
    "a head alone": (b"\xff\xd8\xff\xe0", ""),
    "a HEIC's head": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), ""),
    "an AVIF's head": (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(64), ""),
    "a TIFF that loops": (b"II*\0\x08\0\0\0\0\0\x08\0\0\0", ""),
}


@pytest.mark.parametrize(("suffix", "name"), NAMED)
def test_formats_by_their_names(tmp_path, suffix, name):
    grey = np.linspace(0, 255, 64 * 64).astype(np.uint8).reshape(64, 64)
    path = tmp_path / f"a.{suffix}"
    Image.merge("RGB", [Image.fromarray(grey)] * 3).save(path, name)
    found = np.asarray(decode(path), int)
    assert found.shape == (64, 64, 3) or suffix == "ico"
    assert abs(found.mean() - grey.mean()) < 3


@pytest.mark.parametrize("mode", MODES)
def test_modes(tmp_path, mode):
    Image.new(mode, (8, 6)).save(tmp_path / "a.tif")
    assert decode(tmp_path / "a.tif").size == (8, 6)


@pytest.mark.parametrize(("top", "white"), [(0.5, 128), (1.0, 255), (255.0, 255), (65535.0, 255)])
def test_float_images_are_scaled_as_their_range_says(tmp_path, top, white):
    """Up to 1, up to 255 or up to 65,535: the largest value of each range is white."""
    Image.fromarray(np.array([[0.0, top]], np.float32)).save(tmp_path / "a.tif")
    assert np.asarray(decode(tmp_path / "a.tif"))[0].tolist() == [[0, 0, 0], [white] * 3]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(tmp_path, name):
    content, reason = REFUSED[name]
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(Exception) as caught:
        decode(path)
    told = describe_error(caught.value, path)
    assert told.startswith(reason) and told and "\n" not in told


def test_a_pipe_and_a_device_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").symlink_to("/dev/zero")
    for name, kind in (("a.jpg", "named pipe"), ("b.jpg", "device")):
        with pytest.raises(ReadError) as caught:
            decode(tmp_path / name)
        assert describe_error(caught.value, tmp_path / name) == f"a {kind}, not a regular file"
