"""Who may ask the review page, what is answered, and the page in a browser."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from factories.browser import browser
from factories.photo_runs import PhotoRun, write_photo_run

pytest.importorskip("fastapi", reason="the extra serve is not installed")
from fastapi.testclient import TestClient

from unimos_pipe.photos.review_server import ReviewServer, make_app
from unimos_pipe.photos.review_session import ReviewSession
from unimos_pipe.photos.run_photos import load_run_photos
from unimos_pipe.photos.thumbnail_cache import ThumbnailCache

PROJECT = Path(__file__).parents[2]
ROWS = [("2023/a.png", "cat", 0.9), ("b.png", "dog", 0.4), ("c<i>.png", "a/b", 0.7), ("d.png", "cat", 0.6)]
HOST = {"Host": "127.0.0.1:8000"}


@pytest.fixture
def made(tmp_path) -> PhotoRun:
    return write_photo_run(tmp_path, ROWS)


@pytest.fixture
def client(made, tmp_path) -> TestClient:
    session = ReviewSession(load_run_photos(made.run))
    return TestClient(
        make_app(session, ThumbnailCache(tmp_path / "cache"), ["adapt again"], "token", 8000, lambda: None)
    )


def test_only_this_machine_with_the_token_is_answered(client):
    assert client.get("/token/photos", headers=HOST).status_code == 200
    for headers in ({"Host": "evil.example:8000"}, {"Host": "127.0.0.1"}, {**HOST, "Origin": "http://evil.example"}):
        assert client.get("/token/photos", headers=headers).status_code == 403
        assert client.post("/token/undo?since=0", headers=headers).status_code == 403
    assert client.get("/token/photos", headers={**HOST, "Origin": "http://127.0.0.1:8000"}).status_code == 200
    for address in ("/", "/other/", "/other/photos", "/tok\u00e9n/photos", "/docs", "/openapi.json", "/favicon.ico"):
        assert client.get(address, headers=HOST).status_code == 404
    big = client.post("/token/labels?since=0", headers=HOST, json={"row": 0, "label": "x" * 20_000})
    assert big.status_code == 413
    page = client.get("/token/", headers=HOST)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert (page.headers["referrer-policy"], page.headers["cache-control"]) == ("no-referrer", "no-store")
    assert re.findall(r"https?://", page.text) == []


def test_photos_are_named_by_number_alone(client, made, tmp_path):
    (made.photos / "b.png").write_bytes(b"no image")
    codes = [client.get(f"/token/thumbnail/{row}", headers=HOST).status_code for row in ("0", "1", "4", "-1", "b.png")]
    assert codes == [200, 404, 404, 404, 422]
    for path in ("..%2f..%2fmy.toml", "../my.toml", "%2fetc%2fpasswd"):
        assert client.get(f"/token/large/{path}", headers=HOST).status_code in (404, 422)
    files = list((tmp_path / "cache" / "thumbnails").rglob("*.jpg"))
    assert len(files) == 1 and files[0].read_bytes() == client.get("/token/thumbnail/0", headers=HOST).content
    assert list((tmp_path / "cache" / "thumbnails").rglob("*.jpg")) == files


def test_decisions_are_saved_and_faults_told(client, made):
    answer = client.post("/token/labels?since=0", headers=HOST, json={"row": 1, "label": "cat"}).json()
    assert answer["labels"] == {"1": "cat"} and answer["version"] == 1 and answer["scores"]["labelled"] == 1
    assert made.labels.read()["b.png"] == "cat"
    made.labels.set({"d.png": "dog"})  # another program
    assert client.get("/token/changes?since=1", headers=HOST).json()["labels"] == {"3": "dog"}
    fault = client.post("/token/labels?since=0", headers=HOST, json={"row": 1, "label": "cow"})
    assert fault.status_code == 409 and fault.json()["detail"].startswith("no class 'cow'")
    assert client.post("/token/labels?since=0", headers=HOST, json={"row": "x"}).status_code == 422
    assert client.post("/token/undo?since=2", headers=HOST).json()["undone"] == 1
    assert made.labels.read() == {"2023/a.png": "", "b.png": "", "c<i>.png": "", "d.png": "dog"}
    labels = made.labels.path
    labels.rename(labels.with_suffix(".away"))
    fault = client.post("/token/labels?since=0", headers=HOST, json={"row": 0, "label": "cat"})
    assert (fault.status_code, fault.json()) == (409, {"detail": f"cannot read {labels}: No such file or directory"})


def test_the_button_ends_the_review(made, tmp_path):
    server = ReviewServer(ReviewSession(load_run_photos(made.run)), tmp_path / "cache", [])
    worker = threading.Thread(target=server.serve)
    worker.start()
    with urllib.request.urlopen(urllib.request.Request(f"{server.address}finish", b"", method="POST")) as answer:
        assert answer.status == 200
    worker.join(20)
    assert not worker.is_alive() and server.finished


def test_the_address_has_a_token_of_its_own_and_a_free_port(made, tmp_path):
    session = ReviewSession(load_run_photos(made.run))
    servers = [ReviewServer(session, tmp_path / "cache", []) for _ in range(2)]
    addresses = [re.fullmatch(r"http://127\.0\.0\.1:(\d+)/([\w-]{32})/", server.address) for server in servers]
    assert all(addresses) and addresses[0][1] != addresses[1][1] and addresses[0][2] != addresses[1][2]
    assert not servers[0].finished
    for server in servers:
        server.stop()
        server.serve()


class Review:
    """``unimos-pipe review`` as a process of its own."""

    def __init__(self, made: PhotoRun, cache: Path):
        command = [sys.executable, "-m", "unimos_pipe", "review", str(made.run), "--cache", str(cache)]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        self.address = self.process.stdout.readline().strip()

    def end(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=30)
        return self.process.returncode, out


def wait_until(page, script: str, seconds: float = 20) -> None:
    """Wait until a script of the page is true. The page's policy forbids what playwright's own waiting does."""
    deadline = time.monotonic() + seconds
    while not page.evaluate(script):
        assert time.monotonic() < deadline, script
        page.wait_for_timeout(10)


def saved(count: int) -> str:
    return f"document.getElementById('progress').textContent.startsWith('{count} of ') && unsaved === 0"


PICTURE = "document.getElementById('photo').naturalWidth > 0"


def test_the_page_by_keys_and_clicks_in_two_tabs_and_killed(tmp_path):
    rows = [(f"{number:02d}.png", ("cat", "dog", "a/b")[number % 3], 0.1 + 0.03 * number) for number in range(24)]
    made = write_photo_run(tmp_path, rows, branches={"05.png": ("cat", "dog")})
    review = Review(made, tmp_path / "cache")
    with browser() as chromium:
        page, faults = chromium.new_page(viewport={"width": 1280, "height": 800}), []
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        ours = (review.address, "data:")
        page.on("request", lambda request: request.url.startswith(ours) or faults.append(request.url))
        page.goto(review.address)
        wait_until(page, PICTURE)
        assert page.inner_text("#path") == "00.png"  # the least sure
        for key in ("Enter", "1", "u", "s", "c"):
            page.keyboard.press(key)
        page.keyboard.type("DO")
        page.keyboard.press("Enter")
        wait_until(page, saved(4))
        wanted = {"00.png": "cat", "01.png": "cat", "02.png": "(unknown)", "04.png": "dog"}
        assert {path: label for path, label in made.labels.read().items() if label} == wanted
        assert page.inner_text("#accuracy") == "50.0% of them predicted right (no random choice: not that of all)"
        page.keyboard.press("z")
        page.keyboard.press("z")
        wait_until(page, saved(2))
        assert page.inner_text("#path") == "02.png" and made.labels.read()["02.png"] == ""

        page.click("#none")
        page.click("#numbered button >> nth=2")
        wait_until(page, saved(4))
        assert (made.labels.read()["02.png"], made.labels.read()["03.png"]) == ("(unknown)", "a/b")
        other = chromium.new_page()
        other.goto(review.address)  # a second tab, and what a reload shows
        wait_until(other, saved(4))
        assert other.inner_text("#path") == "04.png"
        other.keyboard.press("Enter")
        wait_until(other, saved(5))
        wait_until(page, saved(5))  # the first tab hears of it
        page.select_option("#state", "corrected")
        assert page.evaluate("view.list") == [1, 2, 3]
        page.select_option("#state", "all")
        page.click("#differ")
        assert page.evaluate("view.list") == [5]
        page.click("#differ")
        page.fill("#below", "0.2")
        page.keyboard.press("Tab")
        page.click("#classes button >> nth=1")
        assert page.evaluate("view.list") == [0, 3]
        assert faults == []
        page.click("#classes button >> nth=0")
        lines = made.labels.path.read_text().splitlines(keepends=True)
        made.labels.path.write_text("".join(line for line in lines if not line.startswith("23.png")))
        page.evaluate("view.list = [23, 22]; view.at = 0; show()")
        page.keyboard.press("u")
        page.keyboard.press("u")
        wait_until(page, saved(6))
        assert page.evaluate("data.labels.slice(22)") == [-1, None] and made.labels.read()["22.png"] == "(unknown)"
        page.evaluate("view.list = [23]; view.at = 0; show()")
        page.keyboard.press("u")
        wait_until(page, "document.getElementById('fault').textContent.startsWith('Not saved, 23.png: ')")
        page.keyboard.press("z")
        wait_until(page, saved(5))
        page.select_option("#order", "random")
        assert page.evaluate("document.scripts.length") == 1
        assert len(faults) == 2 and all("status of 409" in fault for fault in faults)  # both of 23.png

        assert review.end(signal.SIGKILL)[0] == -signal.SIGKILL
        page.keyboard.press("u")
        wait_until(page, "document.getElementById('fault').textContent.startsWith('Not saved (')")
        assert sum(map(bool, made.labels.read().values())) == 5  # all that were counted
        again = Review(made, tmp_path / "cache")
        page.goto(again.address)
        wait_until(page, saved(5))
    code, out = again.end(signal.SIGINT)
    assert code == 0 and out.startswith(f"{made.labels.path}: 5 of 24 photos labelled, 0 in this session\n")
    assert made.unchanged()


@pytest.mark.slow
def test_two_thousand_photos_and_a_hundred_decisions(tmp_path, record_property):
    rows = [(f"{n % 7}/IMG_{n:04d}.png", ("cat", "dog", "a/b")[n % 3], (n * 7919 % 2000) / 2000) for n in range(2000)]
    made = write_photo_run(tmp_path, rows, size=640)
    review, decided = Review(made, tmp_path / "cache"), 0
    figures = {}
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        started = time.monotonic()
        page.goto(review.address)
        wait_until(page, PICTURE)
        figures["seconds to the first picture"] = round(time.monotonic() - started, 2)
        started = time.monotonic()
        for part in range(2):
            for _ in range(50):
                page.keyboard.press(("Enter", "2", "u")[decided % 3])
                decided += 1
            wait_until(page, saved(decided), 120)
            if part == 0:
                review.end(signal.SIGKILL)
                review = Review(made, tmp_path / "cache")
                page.goto(review.address)
                wait_until(page, saved(50))
        figures["seconds for 100 decisions, a kill and a start"] = round(time.monotonic() - started, 2)
        status = Path(f"/proc/{review.process.pid}/status")
        if status.exists():
            figures["MiB of memory"] = int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) // 1024
    typed = [label for label in made.labels.read().values() if label]
    order = sorted(range(2000), key=lambda n: (rows[n][2], n))[:100]
    labels = made.labels.read()
    expected = [(rows[row][1], "dog", "(unknown)")[turn % 3] for turn, row in enumerate(order)]
    assert [labels[rows[row][0]] for row in order] == expected and len(typed) == 100
    assert review.end(signal.SIGINT)[0] == 0
    for name, value in figures.items():
        record_property(name, value)
        print(f"{name}: {value}")
