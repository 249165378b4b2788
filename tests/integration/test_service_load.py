"""The service under 50 clients that upload large, slow, chunked, broken and huge images."""

import contextlib
import io
import json
import re
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from pathlib import Path

import pytest
from factories.images import declared_png
from PIL import Image
from subprocesses import PROGRAMS

pytestmark = pytest.mark.slow

CLIENTS, ROUNDS = 50, 4
# Bytes above idle: two decoded images of 50 megapixels with a copy each, and 50 uploads, of which 1 MiB is in memory
BOUND = 2 * 2 * 150_000_000 + CLIENTS * 2**20


def photo(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((width, height), 90).convert("RGB").save(file, "JPEG")
    return file.getvalue()


PHOTO = photo(640, 480)
LARGE = photo(4000, 3000)
BOMB = declared_png(40_000, 40_000, zlib.compress(bytes(1000)))
EDGE = b"\r\n--edge--\r\n"
HEAD = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'


def request(port: int, headers: str, parts, wait: float = 0) -> int:
    """Send a POST in parts and return the status of the answer, 0 if the connection ended without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        start = "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=edge\r\n"
        connection.sendall(f"{start}{headers}\r\n\r\n".encode())
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(wait)
        except OSError:  # the service has answered and closed
            pass
        try:
            answer = connection.recv(65536)
        except ConnectionError:
            return 0
    return int(answer.split()[1]) if answer else 0


def whole(port: int, image: bytes) -> int:
    body = HEAD + image + EDGE
    return request(port, f"Content-Length: {len(body)}", [body])


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


KINDS = {
    "photo": lambda port: whole(port, PHOTO),
    "large photo": lambda port: whole(port, LARGE),
    "broken": lambda port: whole(port, PHOTO[: len(PHOTO) // 3]),
    "no image": lambda port: whole(port, b"x" * 1000),
    "bomb": lambda port: whole(port, BOMB),
    "too large": lambda port: whole(port, bytes(25_000_000)),
    "chunked": lambda port: request(port, "Transfer-Encoding: chunked", [chunk(HEAD + PHOTO + EDGE), chunk(b"")]),
    "endless": lambda port: request(
        port, "Content-Length: 10\r\nTransfer-Encoding: chunked", (chunk(HEAD + bytes(1_000_000)) for _ in range(400))
    ),
    "slow": lambda port: request(port, "Content-Length: 100000", [HEAD, *[b"x"] * 40], wait=1),
    "gone": lambda port: leave(port),
}
ALLOWED = {
    "photo": {200, 503},
    "large photo": {200, 503},
    "broken": {422, 503},
    "no image": {422, 503},
    "bomb": {422, 503},
    "too large": {413, 0},
    "chunked": {200, 503},
    "endless": {400, 413, 0},
    "slow": {408},
    "gone": {0},
}


def leave(port: int) -> int:
    """Send half a body and close."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf")
    return 0


def memory(pid: int) -> int:
    """Return the resident bytes of a process and its decoders.

    A child that has not started its program yet shares its parent's memory and is not counted.
    """
    total = resident(pid)
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            if b"decoder_process" in Path(f"/proc/{child}/cmdline").read_bytes():
                total += resident(int(child))
    return total


def resident(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


@pytest.fixture
def service(icons_cache, cli, tmp_path):
    """A running service: its process and port."""
    pair = ("--src", "line", "--tgt", "sketch", "--set", "train.epochs=1", "--device", "cpu")
    assert cli("adapt", "--dataset", "icons", "--cache", icons_cache, "--runs", tmp_path / "runs", *pair).code == 0
    (folder,) = {path.parent for path in tmp_path.rglob("heads.safetensors")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, PROGRAMS / "serve.py", folder, "--port", str(port), "--device", "cpu"], stderr=log, stdout=log
    )
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.2)
    yield process, port, tmp_path / "log"
    process.kill()
    process.wait()


def test_fifty_clients(service):
    process, port, log = service
    assert whole(port, PHOTO) == 200
    idle, decoder = memory(process.pid), memory(process.pid) - resident(process.pid)
    peak, statuses, stop = [0], {kind: Counter() for kind in KINDS}, threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            with contextlib.suppress(OSError, TypeError):  # a decoder that has just ended
                peak[0] = max(peak[0], memory(process.pid))

    def client(number: int) -> None:
        for turn in range(ROUNDS):
            kind = list(KINDS)[(number + turn) % len(KINDS)]
            statuses[kind][KINDS[kind](port)] += 1

    watcher = threading.Thread(target=watch)
    clients = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    watcher.start()
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    stop.set()
    watcher.join()
    assert whole(port, PHOTO) == 200
    after = memory(process.pid)
    megabytes = {"decoder": decoder // 10**6, "idle": idle // 10**6, "peak": peak[0] // 10**6, "after": after // 10**6}
    print(json.dumps({"statuses": {kind: dict(counts) for kind, counts in statuses.items()}, "MB": megabytes}))
    for kind, counts in statuses.items():
        assert set(counts) <= ALLOWED[kind], (kind, counts)
    assert peak[0] < idle + BOUND
    # the reserve of base/malloc.py, two decoders, and the pixels of a large photo in each of two threads
    assert after < idle + 2**28 + 2 * decoder + 2 * 36_000_000
    assert "Traceback" not in log.read_text() and process.poll() is None
