"""Decoding in processes of bounded memory and time."""

import io
import os
import signal

import numpy as np
import pytest
from PIL import Image

from unimos_pipe.data.image_decoding import decode
from unimos_pipe.deploy import decoder_process
from unimos_pipe.deploy.decoder_process import DecoderPool, DecoderProcess, RefusedImageError


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((width, height), 90).convert("RGBA").rotate(3).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def decoder():
    process = DecoderProcess(max_pixels=10_000)
    yield process
    process.close()


def refusal(decoder, content: bytes, seconds: float = 60) -> str:
    with pytest.raises(RefusedImageError) as refused:
        decoder.decode(content, seconds)
    return str(refused.value)


def test_pixels_are_those_of_the_library(decoder):
    for width, height in ((30, 20), (100, 100)):
        image = png(width, height)
        np.testing.assert_array_equal(decoder.decode(image, 60), np.asarray(decode(image)))


def test_refusals_are_told_and_the_next_image_is_decoded(decoder):
    assert refusal(decoder, png(101, 100)) == "ValueError: 101 x 100 pixels, more than 10,000"
    assert refusal(decoder, b"no image") == "not an image of a known format"
    assert refusal(decoder, b"") == "an empty file"
    assert decoder.decode(png(30, 20), 60).shape == (20, 30, 3)
    os.kill(decoder._process.pid, signal.SIGSTOP)
    assert refusal(decoder, png(30, 20), seconds=0.1) == "not decoded after 0.1 s"
    assert decoder.decode(png(30, 20), 60).shape == (20, 30, 3)
    decoder._process.kill()
    assert refusal(decoder, png(30, 20)) == "its decoder crashed or ran out of memory"
    assert decoder.decode(png(30, 20), 60).shape == (20, 30, 3)


def test_a_process_that_is_killed_after_its_answer_is_replaced(decoder, monkeypatch):
    def read_late(file, count: int) -> bytes:
        content = file.read(count)
        process.wait()
        return content

    decoder.decode(png(30, 20), 60)
    process = decoder._process
    with monkeypatch.context() as patch:
        patch.setattr(decoder_process, "_read_whole", read_late)
        assert decoder.decode(png(30, 20), 1).shape == (20, 30, 3)
    assert decoder.decode(png(30, 20), 60).shape == (20, 30, 3)


def test_a_large_image_gives_its_memory_back(decoder, monkeypatch):
    decoder.decode(png(30, 20), 60)
    monkeypatch.setattr("unimos_pipe.deploy.decoder_process.RECYCLE_PIXELS", 599)
    process = decoder._process
    decoder.decode(png(30, 20), 60)
    assert process.poll() is not None and decoder._process is None


def test_a_pool_ends_its_processes():
    pool = DecoderPool(1, 10_000)
    assert pool.decode(png(3, 2), 60).shape == (2, 3, 3)
    process = pool._decoders[0]._process
    pool.close()
    assert process.poll() is not None
