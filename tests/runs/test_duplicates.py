"""Equal and nearly equal images: found within and across domains, and the accuracy without them."""

import shutil

import numpy as np
from PIL import Image

from unimos_pipe.runs import duplicates
from unimos_pipe.runs.duplicates import DuplicateImage, DuplicatePair, Duplicates, DuplicateScores, near_pairs


def test_near_pairs_in_blocks(monkeypatch):
    monkeypatch.setattr(duplicates, "BLOCK_ROWS", 2)
    rows = np.array([[1, 0], [0, 1], [0.999, 0.04], [0, 2], [-1, 0]], np.float16)
    pairs = list(near_pairs(rows, 0.98))
    assert [pair[:2] for pair in pairs] == [(0, 2), (1, 3)]
    assert abs(pairs[0][2] - 0.9992) < 1e-3 and pairs[1][2] == 1.0  # float16 has 11 bits


def test_findings_and_scores():
    shop, phone, other = (
        DuplicateImage(*row) for row in (("shop", "a.jpg", "cup"), ("phone", "b.jpg", "fork"), ("phone", "c.jpg", ""))
    )
    pairs = DuplicatePair(shop, phone, 0.99), DuplicatePair(phone, other, 0.985)
    found = Duplicates(pairs, ("film",), None).findings()
    across = "shop/a.jpg (cup) = phone/b.jpg (fork), cosine 0.990"
    assert [(finding.kind, finding.serious, finding.places) for finding in found] == [
        ("nearly equal images of two classes", False, (across,)),
        ("nearly equal images of two domains", False, (across,)),
        ("nearly equal images of a domain", False, ("phone/b.jpg (fork) = phone/c.jpg, cosine 0.985",)),
        ("no features in the cache", False, ("film",)),
    ]
    assert str(DuplicateScores(10, 2, 0.8, 0.75)) == (
        "accuracy: 80.0% of 10 labelled images; without the 2 that the source has, too: 75.0%"
    )


def test_check_lists_them_and_scores_a_run_without_them(cli, miniature, tmp_path):
    dark, light, cache = miniature.root / "dark", miniature.root / "light", tmp_path / "cache"
    shutil.copy(dark / "bar" / "0.png", dark / "circle" / "copy.png")  # equal contents, two classes
    with Image.open(dark / "square" / "1.png") as image:
        image.save(light / "square" / "of dark.jpg", quality=95)  # nearly equal, across
    own = tmp_path / "own.toml"
    domains = [f"--domain={name}={miniature.root / name}" for name in ("dark", "light")]
    assert cli("manifest", "scan", *domains, "-o", own).code == 0
    options = ("--dataset", own, "--cache", cache)
    assert cli("extract", *options, "--encoder", "tiny", "--all", "--workers", 0).code == 0  # not the data set's own
    pair = ("--src", "dark", "--tgt", "light", "--method", "zero-shot", "--out", tmp_path / "run")
    assert cli("adapt", *options, *pair).code == 0
    answer = cli(
        "manifest", "check", own, "--cache", cache, "--features", "--run", tmp_path / "run", "--max-examples", 99
    )
    lines = dict(line.split(": ", 1)[1].split(", ", 1) for line in answer.out.splitlines() if line.startswith("notice"))
    assert "1: dark/bar/0.png (bar) = dark/circle/copy.png (circle)" in lines["same contents in two classes"]
    assert (
        "dark/bar/0.png (bar) = dark/circle/copy.png (circle), cosine 1.000"
        in lines["nearly equal images of two classes"]
    )
    assert (
        "dark/square/1.png (square) = light/square/of dark.jpg (square), cosine"
        in lines["nearly equal images of two domains"]
    )
    assert answer.code == 0 and "% of 25 labelled images; without the " in answer.out
    answer = cli("manifest", "check", own, "--run", tmp_path / "run")
    assert (answer.code, answer.err) == (2, "Error: --run and --encoder-id need --features\n")
