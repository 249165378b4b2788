"""Unusual images are decoded as a viewer shows them, or reported with the reason."""

import numpy as np
import pytest
import torch
from PIL import Image

from unimos_pipe.base.errors import ReadError
from unimos_pipe.data.image_decoding import decode, describe_error
from unimos_pipe.extract.image_loader import read_batches


def pixels(path) -> np.ndarray:
    image = decode(path)
    assert image.mode == "RGB"
    return np.asarray(image)


def near(found, wanted, by=3) -> bool:
    return bool((np.abs(found.astype(int) - np.array(wanted)) <= by).all())


def test_contents_count_not_the_name(tmp_path):
    Image.new("RGB", (5, 4), (10, 20, 30)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert pixels(tmp_path / "a.jpg").shape == (4, 5, 3)
    assert (pixels(tmp_path / "a.jpg") == (10, 20, 30)).all()


def test_cmyk(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg")  # no cyan: red
    assert near(pixels(tmp_path / "a.jpg"), (255, 0, 0))


@pytest.mark.parametrize(("value", "shown"), [(0, 0), (257 * 100, 100), (65535, 255), (200, 1)])
def test_sixteen_bit_grey_is_scaled(tmp_path, value, shown):
    Image.fromarray(np.full((4, 4), value, np.uint16)).save(tmp_path / "a.png")
    assert (pixels(tmp_path / "a.png") == shown).all()


def test_float_images(tmp_path):
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "unit.tif")
    Image.fromarray(np.full((4, 4), 200, np.float32)).save(tmp_path / "byte.tif")
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(tmp_path / "nan.tif")
    assert (pixels(tmp_path / "unit.tif") == 128).all()
    assert (pixels(tmp_path / "byte.tif") == 200).all()
    with pytest.raises(ValueError, match="pixel values that are not finite"):
        decode(tmp_path / "nan.tif")


def test_transparency_lies_on_white(tmp_path):
    half = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    half.save(tmp_path / "rgba.png")
    assert near(pixels(tmp_path / "rgba.png"), (127, 127, 127))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([9, 9, 9, 200, 0, 0])
    palette.putpixel((0, 0), 0)
    palette.save(tmp_path / "palette.png", transparency=0)
    found = pixels(tmp_path / "palette.png")
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[1, 1].tolist() == [200, 0, 0]
    Image.new("LA", (4, 4), (0, 0)).save(tmp_path / "la.png")
    assert (pixels(tmp_path / "la.png") == 255).all()


def test_an_animation_shows_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (6, 6), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=50)
    assert near(pixels(tmp_path / "a.gif"), (255, 0, 0))


def test_exif_turns_the_image(tmp_path):
    image = Image.new("RGB", (16, 8), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    found = pixels(tmp_path / "a.jpg")
    assert found.shape == (16, 8, 3)
    assert near(found[:6], (255, 255, 255), 8)
    assert near(found[10:], (0, 0, 0), 8)


def test_damaged_exif_turns_nothing(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (16, 8)).save(tmp_path / "a.jpg", exif=exif.tobytes()[:14] + b"\xff" * 6)
    assert pixels(tmp_path / "a.jpg").shape == (8, 16, 3)


def broken_files(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "text.jpg").write_text("<html>not found</html>")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "folder.jpg").mkdir()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty.jpg", "an empty file"),
        ("cut.jpg", "OSError: image file is truncated"),
        ("text.jpg", "not an image of a known format"),
        ("loop.jpg", "Too many levels of symbolic links"),
        ("folder.jpg", "a folder, not a regular file"),
        ("gone.jpg", "No such file or directory"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, reason):
    broken_files(tmp_path)
    with pytest.raises((OSError, ReadError)) as caught:
        decode(tmp_path / name)
    assert describe_error(caught.value, tmp_path / name).startswith(reason)


def test_a_decompression_bomb_is_refused(tmp_path):
    Image.new("RGB", (100, 100)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"^100 x 100 pixels, more than 9,999$"):
        decode(tmp_path / "a.png", max_pixels=9999)


@pytest.mark.parametrize("size", [(60_000, 1), (1, 101), (201, 2)])
def test_an_image_that_the_resize_would_blow_up_is_refused(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "a.png")
    with pytest.raises(ValueError) as caught:
        decode(tmp_path / "a.png")
    assert describe_error(caught.value, tmp_path / "a.png") == (
        f"ValueError: {size[0]} x {size[1]} pixels: one side is more than 100 times the other"
    )


def test_a_long_image_within_the_limit_is_decoded(tmp_path):
    Image.new("RGB", (200, 2), (10, 20, 30)).save(tmp_path / "a.png")
    assert (pixels(tmp_path / "a.png") == (10, 20, 30)).all()


def test_bad_rows_are_named_beside_the_good(tmp_path):

    broken_files(tmp_path)
    names = ["whole.jpg", "cut.jpg", "empty.jpg"]
    ((good, tensor, bad),) = read_batches(
        tmp_path, names, [[0, 1, 2]], lambda image: torch.full((2, 2, 3), image.shape[1]), workers=0
    )
    assert good == [0]
    assert tensor.tolist() == [[[[64] * 3] * 2] * 2]
    assert [row for row, _ in bad] == [1, 2]
    assert bad[1][1] == "an empty file"


@pytest.mark.parametrize(("answer", "calls"), [(0, ["lock", "unlock"]), (1, ["lock"])])
def test_memory_for_a_gpu_is_page_locked_while_batches_are_read(tmp_path, monkeypatch, answer, calls):
    """By a stand-in for the driver, which may refuse; the batch comes either way."""
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    made, sizes = [], []

    class Driver:
        class cudaError:  # noqa: N801
            success = 0

        def cudaHostRegister(self, address, size, flags):  # noqa: N802
            made.append("lock")
            sizes.append(size)
            return answer

        def cudaHostUnregister(self, address):  # noqa: N802
            made.append("unlock")

    monkeypatch.setattr("torch.cuda.cudart", Driver)
    stream = read_batches(
        tmp_path, ["a.png"], [[0]], lambda image: torch.zeros(2, 2, 3, dtype=torch.uint8), 0, on_gpu=True
    )
    assert [good for good, _, _ in stream] == [[0]]
    assert (made, sizes) == (calls, [2 * 12])  # a batch that the GPU reads, and the next
