"""Decoding of untrusted image files in processes of bounded memory and time, for services.

A process that exceeds its time or memory is killed and replaced, so that a decoder in C code cannot hold the service.
"""

import contextlib
import os
import queue
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from unimos_pipe.data.image_decoding import describe_error, open_image, to_rgb

RECYCLE_PIXELS = 4_000_000  # a process that decoded a larger image is replaced, which returns its memory
BASE_BYTES = 2**30  # address space of a process beside its pixels: interpreter, libraries, file
BYTES_PER_PIXEL = 24  # of an image, with the copies of its conversions


class RefusedImageError(Exception):
    """An image that cannot be decoded within the limits; the text is the reason."""


class DecoderProcess:
    """A child process that decodes images, one at a time. Closed at the end of a ``with`` block."""

    def __init__(self, max_pixels: int):
        self.max_pixels = max_pixels
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, content: bytes, seconds: float) -> np.ndarray:
        """Return the (H, W, 3) uint8 pixels of an image file, as ``image_decoding.decode`` does.

        Raises:
            RefusedImageError: the image is damaged, has more than ``max_pixels``, or takes more than ``seconds``.
        """
        process = self._process = self._process or _start(self.max_pixels)
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, stop)
        timer.start()
        try:
            process.stdin.write(struct.pack("<Q", len(content)) + content)
            process.stdin.flush()
            height, width, reason = struct.unpack("<QQQ", _read_whole(process.stdout, 24))
            if reason:
                raise RefusedImageError(_read_whole(process.stdout, reason).decode())
            pixels = np.frombuffer(_read_whole(process.stdout, height * width * 3), np.uint8)
        except (EOFError, BrokenPipeError):
            self.close()
            reason = f"not decoded after {seconds:g} s" if late.is_set() else "its decoder crashed or ran out of memory"
            raise RefusedImageError(reason) from None
        finally:
            timer.cancel()
            timer.join()
        if height * width > RECYCLE_PIXELS or late.is_set():  # late: it was killed after its answer
            self.close()
        return pixels.reshape(height, width, 3)

    def close(self) -> None:
        """End the process; the next image starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


class DecoderPool:
    """A fixed number of decoder processes for the threads of a service."""

    def __init__(self, processes: int, max_pixels: int):
        self._decoders = [DecoderProcess(max_pixels) for _ in range(processes)]
        self._idle: queue.SimpleQueue[DecoderProcess] = queue.SimpleQueue()
        for decoder in self._decoders:
            self._idle.put(decoder)

    def decode(self, content: bytes, seconds: float) -> np.ndarray:
        """Decode in the next idle process; wait for one. As :meth:`DecoderProcess.decode`."""
        decoder = self._idle.get()
        try:
            return decoder.decode(content, seconds)
        finally:
            self._idle.put(decoder)

    def close(self) -> None:
        """End all processes."""
        for decoder in self._decoders:
            decoder.close()


def _start(max_pixels: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "unimos_pipe.deploy.decoder_process", str(max_pixels)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # each thread reserves memory
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env=environment, **pipes)


def _read_whole(file: BinaryIO, count: int) -> bytes:
    """Return ``count`` bytes. Raises EOFError if the file ends before."""
    content = file.read(count)
    if len(content) < count:
        raise EOFError
    return content


def _requests(file: BinaryIO) -> Iterator[bytes]:
    """Yield the image files that the parent sends, until it ends."""
    with contextlib.suppress(EOFError):
        while True:
            (size,) = struct.unpack("<Q", _read_whole(file, 8))
            yield _read_whole(file, size)


def _limit_memory(max_pixels: int) -> None:
    """Limit the address space of this process, on systems that can."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        size = BASE_BYTES + BYTES_PER_PIXEL * max_pixels
        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _decode(content: bytes, max_pixels: int) -> np.ndarray:
    with open_image(content, max_pixels=max_pixels) as image:
        return np.ascontiguousarray(to_rgb(image))


def main(max_pixels: int) -> None:
    """Answer requests on stdin: size and file; on stdout: height, width and pixels, or the reason of a refusal."""
    _limit_memory(max_pixels)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not become an answer
    for content in _requests(sys.stdin.buffer):
        try:
            pixels, reason = _decode(content, max_pixels), b""
        except MemoryError:
            pixels, reason = np.empty((0, 0, 3), np.uint8), b"more memory than its size allows"
        except Exception as error:  # decoders raise any type
            pixels, reason = np.empty((0, 0, 3), np.uint8), describe_error(error, content).encode()
        answers.write(struct.pack("<QQQ", *pixels.shape[:2], len(reason)) + reason)
        answers.write(pixels.data)
        answers.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
