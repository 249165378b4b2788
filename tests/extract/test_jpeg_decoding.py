"""JPEGs decoded by torchvision equal PIL's; others are left to PIL."""

import os

import numpy as np
import pytest
import torch
from conftest import SHARED
from PIL import Image

from unimos_pipe.data.build_manifest import unpack_embedded
from unimos_pipe.data.image_decoding import DECODER, decode, open_image
from unimos_pipe.extract import jpeg_decoding
from unimos_pipe.extract.image_loader import read_batches
from unimos_pipe.extract.jpeg_decoding import PROBES, decode_plain_jpeg, decoder_name, read_pixels, torchvision_agrees

PHOTOGRAPHS = SHARED / "data" / "pacs"
KINDS = {  # how a JPEG is written, and whether torchvision may read it
    "420": ({"quality": 75, "subsampling": 2}, True),
    "422": ({"quality": 60, "subsampling": 1}, True),
    "444": ({"quality": 95, "subsampling": 0}, True),
    "own tables": ({"quality": 30, "optimize": True}, True),
    "restarts": ({"restart_marker_blocks": 3}, True),
    "no YCbCr": ({"keep_rgb": True}, True),
    "a comment": ({"comment": b"\xff\xc2" * 40}, True),
    "progressive": ({"progressive": True}, False),
}


def by_torchvision(path) -> np.ndarray | None:
    with open_image(path) as image:
        return decode_plain_jpeg(image, path.read_bytes())


@pytest.fixture(scope="module")
def drawings(tmp_path_factory) -> list[Image.Image]:
    """Icons at odd sizes, as JPEG never sees them."""
    folder = unpack_embedded("icons.zip", tmp_path_factory.mktemp("icons"))
    found = [decode(path) for path in sorted(folder.rglob("*.png"))[::160]]
    return [image.resize((33 + 8 * at, 90 - 3 * at)) for at, image in enumerate(found)]


@pytest.fixture(scope="module")
def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_drawings_have_pils_pixels(kind, mode, drawings, noise, tmp_path):
    options, taken = KINDS[kind]
    for number, image in enumerate([*drawings, noise]):
        path = tmp_path / f"{number}.jpg"
        image.convert(mode).save(path, **options)
        found = by_torchvision(path)
        assert (found is not None) == taken
        assert found is None or np.array_equal(found, np.asarray(decode(path)))


def test_photographs_have_pils_pixels():
    files = sorted(PHOTOGRAPHS.glob("*/*/*.jpg"))[::8]
    if not files:
        pytest.skip(f"no photographs at {PHOTOGRAPHS}")
    found = [by_torchvision(path) for path in files]
    assert sum(image is not None for image in found) > 100
    for path, image in zip(files, found, strict=True):
        assert image is None or np.array_equal(image, np.asarray(decode(path))), path


def test_two_pictures_in_one_file_show_the_first(noise, tmp_path):
    """As phones write them."""
    other = Image.new("RGB", noise.size)
    noise.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[other])
    with open_image(tmp_path / "a.jpg") as image:
        assert image.format == "MPO"
    assert np.array_equal(by_torchvision(tmp_path / "a.jpg"), np.asarray(decode(tmp_path / "a.jpg")))


def turned(noise, path):
    exif = Image.Exif()
    exif[0x0112] = 6
    noise.save(path, exif=exif)


def cut(noise, path):
    noise.save(path)
    path.write_bytes(path.read_bytes()[:-700])


def scratched(noise, path):
    """Bytes in the middle that mean something else: libjpeg goes on, and says so on stderr."""
    noise.save(path)
    content = bytearray(path.read_bytes())
    middle = len(content) * 2 // 3
    content[middle : middle + 40] = b"\x55" * 40
    path.write_bytes(content)


def taller_at_first(noise, path):
    """Two frame headers, the second of which PIL believes."""
    noise.save(path)
    content = path.read_bytes()
    at = content.index(b"\xff\xc0")
    frame = content[at : at + 19]
    path.write_bytes(content[:at] + frame[:5] + b"\xff\xff" + frame[7:] + content[at:])


def arithmetic(noise, path):
    noise.save(path)
    path.write_bytes(path.read_bytes().replace(b"\xff\xc0", b"\xff\xc9", 1))


@pytest.mark.parametrize("make", [turned, cut, scratched, taller_at_first, arithmetic])
def test_what_differs_is_left_to_pil(make, noise, tmp_path, capfd):
    make(noise, tmp_path / "a.jpg")
    assert by_torchvision(tmp_path / "a.jpg") is None
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("mode", ["CMYK", "RGB"])
def test_other_colours_and_other_formats_are_left_to_pil(mode, noise, tmp_path):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    noise.convert(mode).save(path)
    assert by_torchvision(path) is None


def test_a_bomb_is_refused_by_its_header(noise, tmp_path, monkeypatch):
    noise.save(tmp_path / "a.jpg")
    monkeypatch.setattr(jpeg_decoding, "get_worker_info", lambda: "a worker")
    monkeypatch.setattr(jpeg_decoding, "_decode_with_torchvision", None)
    with pytest.raises(ValueError, match=r" pixels, more than 2,000$"):
        read_pixels(tmp_path / "a.jpg", max_pixels=2000)


def test_workers_decode_jpegs_by_torchvision_and_say_nothing(noise, tmp_path, monkeypatch, capfd):
    """A worker sees the marked pixels of the stand-in; this process, where nothing stops a call into C, sees PIL's."""
    noise.save(tmp_path / "whole.jpg")
    scratched(noise, tmp_path / "scratched.jpg")
    monkeypatch.setattr(jpeg_decoding, "torchvision_agrees", lambda: True)
    real = jpeg_decoding._decode_with_torchvision
    monkeypatch.setattr(jpeg_decoding, "_decode_with_torchvision", lambda content: real(content) // 255)
    rows = ["whole.jpg", "scratched.jpg"]

    def means(workers: int) -> list[float]:
        stream = read_batches(
            tmp_path, rows, [[0], [1]], lambda image: torch.tensor([[[image.mean()]]]).byte(), workers
        )
        return [batch.float().mean().item() for _, batch, _ in stream]

    here, there = means(0), means(1)
    assert there[0] < 2 < here[0] and here[1] == there[1] > 2
    assert capfd.readouterr().err == ""


def test_a_build_that_decodes_otherwise_or_not_at_all_is_not_used(monkeypatch):
    assert torchvision_agrees() and len(list(PROBES.glob("*.jpg"))) == 4
    real = jpeg_decoding._decode_with_torchvision
    gone = AttributeError("module 'torchvision.io' has no attribute 'decode_jpeg'")
    for stand in (
        lambda content: real(content) ^ 1,
        lambda content: raised(gone),
        lambda content: raised(RuntimeError()),
    ):
        monkeypatch.setattr(jpeg_decoding, "_decode_with_torchvision", stand)
        assert not torchvision_agrees.__wrapped__()


def raised(error: Exception):
    raise error


def test_the_key_says_what_jpegs_come_to(monkeypatch, tmp_path, noise):
    assert decoder_name() == DECODER
    noise.save(tmp_path / "a.jpg")
    monkeypatch.setattr(jpeg_decoding, "PROBES", tmp_path)
    assert decoder_name.__wrapped__().startswith(f"{DECODER}; JPEGs as ")


def test_stderr_is_back_after_a_decoder_that_fails(capfd):
    with pytest.raises(RuntimeError):
        jpeg_decoding._decode_without_warnings(lambda: raised(RuntimeError()))
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"
