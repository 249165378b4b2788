"""A folder as a phone leaves it: every file of it is accounted for, by every command."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from factories.images import draw
from PIL import Image

ROWS = ["IMG_1.HEIC", "IMG_2.JPG", "IMG_3.JPG", "IMG_4", "IMG_5.JPG"]
NOTE = (
    "12 left out: __MACOSX 1, broken link 1 (.jpg 1), folder that links to itself 1, hidden 2 (no suffix 1, .jpg 1), "
    "named pipe 1 (.jpg 1), not an image 4 (no suffix 1, .aae 1, .eps 1, .txt 1), video 2 (.mov 1, .mp4 1)"
)


@pytest.fixture
def phone(tmp_path) -> Path:
    """5 images, of which IMG_3 is broken and IMG_5 IMG_2 again, and 12 things that are none."""
    folder = tmp_path / "DCIM" / "100APPLE"
    draw(folder / "drawn.png", 0, np.random.default_rng(0), dark=True)
    image = Image.open(folder / "drawn.png").convert("RGB")
    image.load()
    (folder / "drawn.png").unlink()
    pillow_heif.from_pillow(image).save(folder / "IMG_1.HEIC")
    image.save(folder / "IMG_2.JPG", "JPEG")
    shutil.copy(folder / "IMG_2.JPG", folder / "IMG_5.JPG")
    shutil.copy(folder / "IMG_2.JPG", folder / "IMG_4")
    whole = (folder / "IMG_2.JPG").read_bytes()
    (folder / "IMG_3.JPG").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "IMG_3.MOV").write_bytes(b"\0\0\0\x14ftypqt  " + bytes(40))
    (folder / "IMG_6.mp4").write_bytes(b"\0\0\0\x14ftypmp42" + bytes(40))
    (folder / "IMG_2.AAE").write_text('<?xml version="1.0" encoding="UTF-8"?>')
    (folder / "BMW.txt").write_text("BMW begins like a bitmap")
    (folder / "empty").touch()
    (folder / "plot.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    shutil.copy(folder / "IMG_2.JPG", folder / "._IMG_2.JPG")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    (folder / "again").symlink_to(folder.parent)
    shutil.copytree(folder, folder.parent / "__MACOSX" / "100APPLE", symlinks=True, ignore=lambda *_: ["pipe.jpg"])
    return folder.parent


def test_every_file_is_accounted_for(cli, miniature, phone, tmp_path):
    rows = [f"100APPLE/{name}" for name in ROWS]
    own, cache = tmp_path / "own.toml", tmp_path / "cache"
    note = f"Warning: {phone}: {NOTE}"
    answer = cli(
        *("manifest", "scan", f"--domain=shop={miniature.root}/dark", f"--domain=phone={phone}:none", "-o", own),
        *("--encoder", "tiny"),
    )
    assert answer.out == f"{own}: 3 classes (bar, circle, square); images: shop: 24, phone: 5\n"
    assert note in answer.err.splitlines()
    assert list(csv.reader((tmp_path / "own.phone.csv").open(newline="")))[1:] == [[path, ""] for path in rows]

    broken = f"phone/{rows[2]} (OSError: image file is truncated"
    answer = cli("manifest", "check", own)
    lines = answer.out.splitlines()
    assert lines[1].startswith(f"notice: unreadable image, 1: {broken}")
    assert [lines[0], *lines[2:]] == [
        f"notice: note, 1: {phone}: {NOTE}",
        f"notice: same contents, 1: phone/{rows[1]} = phone/{rows[3]} = phone/{rows[4]}",
        "own: 29 rows, nothing serious to report",
    ]
    assert answer.code == 0

    answer = cli("extract", "--dataset", own, "--all", "--cache", cache)
    assert answer.code == 0
    assert note in answer.err.splitlines()
    assert f"phone: 1 unreadable image(s) are left out: {rows[2]} (OSError: image file is truncated" in answer.err
    assert "own/phone: 4 rows, 4 encoded, 0 reused" in answer.err

    run, out = tmp_path / "run", tmp_path / "out.csv"
    pair = ("--dataset", own, "--src", "shop", "--tgt", "phone", "--cache", cache, "--out", run)
    assert cli("adapt", *pair, "--epochs", 1, "--set", "train.batch_size=4").code == 0
    answer = cli("predict", "--run", run, "--images", phone, "-o", out)
    assert (answer.code, answer.out) == (0, f"{out}: 4 of 5 images classified\n")
    assert note in answer.err.splitlines()
    table = list(csv.DictReader(out.open(newline="")))
    assert [row["path"] for row in table] == rows
    assert [bool(row["error"]) for row in table] == [False, False, True, False, False]

    answer = cli("predict", "--run", run, "--images", phone, "-o", out, "--top", 4)
    assert (answer.code, answer.err) == (2, "Error: --top 4: expected at most 3, the model's classes, got 4\n")
    pipe = phone / "100APPLE" / "pipe.jpg"
    answer = cli("predict", "--run", run, "--images", pipe, phone / "100APPLE" / "IMG_1.HEIC", "-o", out)
    assert answer.code == 0
    assert [row["error"] for row in csv.DictReader(out.open(newline=""))] == ["a named pipe, not a regular file", ""]
