"""Unusual images are decoded as a viewer shows them, or reported with the reason."""

import contextlib
import os
from collections import deque

import numpy as np
import pytest
import torch
from PIL import Image

from unimos_pipe.base.errors import ExecutionError, ReadError
from unimos_pipe.data.image_decoding import decode, describe_error
from unimos_pipe.extract import image_loader
from unimos_pipe.extract.encoder_protocol import BATCHES_IN_FLIGHT
from unimos_pipe.extract.image_loader import Decoders, read_batches


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
    assert (made, sizes) == (calls, [4 * 12])  # three batches that the GPU may still read, and the next


@pytest.fixture
def folders(tmp_path) -> list:
    """Two folders of images whose red values are their numbers, from 100 and from 200 on."""
    for first in (100, 200):
        (tmp_path / str(first)).mkdir()
        for row in range(9):
            Image.new("RGB", (4, 4), (first + row, 0, 0)).save(tmp_path / str(first) / f"{row}.png")
    return [(tmp_path / str(first), [f"{row}.png" for row in range(9)]) for first in (100, 200)]


def red_and_process(image: np.ndarray) -> torch.Tensor:
    """The red value of an image, and the process that decoded it in three bytes."""
    return torch.tensor([image[0, 0, 0], *os.getpid().to_bytes(3)], dtype=torch.uint8).reshape(1, 1, 4)


BATCHES = [[0, 1], [2], [3, 4], [5, 6], [7, 8]]


@pytest.mark.parametrize("workers", [0, 2])
def test_decoders_stay_for_the_next_folder(workers, folders):
    processes = []
    with Decoders(folders, red_and_process, 2, workers) as decoders:
        for number, first in ((0, 100), (1, 200), (0, 100)):
            parts = [(good, pixels.clone()) for good, pixels, _ in decoders.read_batches(number, BATCHES)]
            assert [good for good, _ in parts] == BATCHES
            pixels = torch.cat([pixels for _, pixels in parts]).reshape(9, 4)
            assert pixels[:, 0].tolist() == list(range(first, first + 9))
            processes.append({bytes(row) for row in pixels[:, 1:].tolist()})
    assert len(processes[0]) == max(1, workers) and processes == processes[:1] * 3
    assert ({os.getpid().to_bytes(3)} == processes[0]) == (workers == 0)
    for process in processes[0] if workers else ():
        with pytest.raises(ProcessLookupError):  # they ended with the block
            os.kill(int.from_bytes(process), 0)


def test_the_next_folder_is_whole_after_an_earlier_one_was_left(folders):
    """What workers still decode of the first folder must not reach the pixels of the second."""
    with Decoders(folders, red_and_process, 2, 2) as decoders:
        left = decoders.read_batches(0, BATCHES)
        assert next(left)[0] == [0, 1]
        reds = [pixels[:, 0, 0, 0].tolist() for _, pixels, _ in decoders.read_batches(1, BATCHES)]
    assert reds == [[200 + row for row in rows] for rows in BATCHES]


def test_pixels_of_batches_in_flight_stay(folders, monkeypatch):
    """A batch is read again after the next three have come, as a GPU may that is three batches behind."""
    monkeypatch.setattr(image_loader, "_pinned", lambda memory: contextlib.nullcontext())
    held, late = deque(), []
    with Decoders(folders, red_and_process, 1, 1, on_gpu=True) as decoders:
        for _, pixels, _ in decoders.read_batches(0, [[row] for row in range(9)]):
            held.append(pixels)
            if len(held) > BATCHES_IN_FLIGHT:
                late.append(int(held.popleft()[0, 0, 0, 0]))
        late += [int(pixels[0, 0, 0, 0]) for pixels in held]
        assert len(decoders.data.slots) == 2 + BATCHES_IN_FLIGHT + 1  # two that the worker is ahead
    assert late == list(range(100, 109))


@pytest.mark.slow  # torch looks every five seconds
def test_a_decoder_that_died_between_two_folders_names_the_images_that_it_was_to_read(folders):
    with Decoders(folders, red_and_process, 2, 1) as decoders:
        pids = {int.from_bytes(bytes(pixels[0, 0, 0, 1:].tolist())) for _, pixels, _ in decoders.read_batches(0, [[0]])}
        os.kill(pids.pop(), 9)
        with pytest.raises(ExecutionError) as lost:
            list(decoders.read_batches(1, BATCHES))
    assert str(lost.value) == (
        f"the decoder hung or crashed in {folders[1][0]}, in or just after 0.png, 1.png (or memory ran out). Finished "
        "shards are kept; remove the file, or use workers=0 to see its error"
    )
