"""Predictions equal the run's, from images and from the cache; order, unreadable images, messages."""

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from factories.images import draw
from PIL import Image

from unimos_pipe.data.build_manifest import find_root
from unimos_pipe.data.dataset_spec import load_spec


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(cli, icons_cache, tmp_path_factory) -> Path:
    """A run of 3 epochs on the embedded data."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    pair = ("--dataset", "icons", "--src", "line", "--tgt", "sketch")
    assert cli("adapt", *pair, "--epochs", 3, "--cache", icons_cache, "--out", folder).code == 0
    return folder


def same_answers(found: list[dict[str, str]], stored: list[dict[str, str]]) -> None:
    """The same paths; probabilities within 1e-3; other classes only where two are within 1e-3."""
    assert [row["path"] for row in found] == [row["path"] for row in stored]
    for ours, theirs in zip(found, stored, strict=True):
        for name, value in (("class", "probability"), ("vac", "vac_probability"), ("lac", "lac_probability")):
            assert float(ours[value]) == pytest.approx(float(theirs[value]), abs=1e-3)
            tie = name == "class" and float(ours[value]) - float(ours["probability_2"]) < 1e-3
            assert ours[name] == theirs[name] or tie or name != "class"


def test_the_runs_own_images_give_its_stored_answers(cli, run, icons_cache, tmp_path):
    root = find_root(load_spec("icons"), None, icons_cache) / "sketch"
    out = tmp_path / "out.csv"
    answer = cli("predict", "--run", run, "--images", root, "-o", out, "--top")
    assert (answer.code, answer.out) == (0, f"{out}: 716 of 716 images classified\n")
    found = rows_of(out)
    same_answers(found, rows_of(run / "predictions.csv"))
    assert [name for name in found[0] if name.startswith("class")] == ["class", *(f"class_{k}" for k in (2, 3, 4, 5))]


def test_a_cached_domain_needs_no_images_and_no_weights(cli, run, icons_cache, tmp_path, monkeypatch):
    monkeypatch.setattr("unimos_pipe.extract.plugin_encoder.open_encoder", None)  # loading an encoder would fail
    out = tmp_path / "out.csv"
    answer = cli("predict", "--run", run, "--domain", "sketch", "--cache", icons_cache, "-o", out, "--top", 2)
    told = r"716 rows of icons/sketch; accuracy [\d.]+ on 716 labelled of 716 rows, 95% interval [\d.]+ to [\d.]+\n"
    assert answer.code == 0 and re.fullmatch(re.escape(f"{out}: ") + told, answer.out)
    same_answers(rows_of(out), rows_of(run / "predictions.csv"))


def test_a_dash_is_stdout_and_nothing_else_goes_there(cli, run, icons_cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out.csv"
    domain = ("predict", "--run", run, "--domain", "sketch", "--cache", icons_cache)
    written, printed = cli(*domain, "-o", out), cli(*domain, "-o", "-")
    assert (printed.code, printed.out) == (0, out.read_text())
    assert printed.err == written.out.replace(str(out), "-") + written.err
    assert cli("-q", *domain, "-o", "-").err == ""
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    failed = cli("predict", "--run", run, "--images", tmp_path / "none", "-o", "-")
    assert failed.code == 2 and failed.out == ""


def test_broken_images_are_listed_and_the_order_is_kept(cli, run, icons_cache, tmp_path):
    source = sorted((find_root(load_spec("icons"), None, icons_cache) / "sketch").rglob("*.png"))[:50]
    folder = tmp_path / "images"
    folder.mkdir()
    for index, path in enumerate(source):
        shutil.copy(path, folder / f"{index:02d}.png")
    broken = {"00.png": b"", "17.png": b"not an image", "49.png": source[49].read_bytes()[:200]}
    for name, content in broken.items():
        (folder / name).write_bytes(content)
    answer = cli("predict", "--run", run, "--images", folder, "-o", tmp_path / "out.csv", "--batch-size", 16)
    assert (answer.code, answer.out) == (0, f"{tmp_path / 'out.csv'}: 47 of 50 images classified\n")
    warned = [line.split(":")[1].strip() for line in answer.err.splitlines() if line.startswith("Warning")]
    assert warned == [f"cannot read {name}" for name in broken]
    found = rows_of(tmp_path / "out.csv")
    assert [row["path"] for row in found] == [f"{index:02d}.png" for index in range(50)]
    assert {row["path"] for row in found if row["error"]} == set(broken) == {r["path"] for r in found if not r["class"]}
    stored = {row["path"]: row for row in rows_of(run / "predictions.csv")}
    for index in (1, 16, 18, 48):  # rows beside broken ones are still their own
        theirs = stored["/".join(source[index].parts[-2:])]
        assert float(found[index]["probability"]) == pytest.approx(float(theirs["probability"]), abs=1e-3)


def test_single_files_are_named_as_given(cli, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.png"):
        draw(Path(name), 0, np.random.default_rng(0), dark=True)
    assert cli("predict", "--run", run, "--images", "b.png", "a.png", "-o", "out.csv").code == 0
    assert [row["path"] for row in rows_of(Path("out.csv"))] == ["b.png", "a.png"]


def test_faults_are_said(cli, run, tmp_path):
    out = ("-o", tmp_path / "out.csv")
    assert cli("predict", "--run", run, *out).err == (
        "Error: say what to classify: --images DIR|FILE... or --domain NAME (one of the two)\n"
    )
    assert (
        cli("predict", "--run", run, "--images", tmp_path / "no", *out).err
        == f"Error: no image or folder {tmp_path}/no\n"
    )
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    answer = cli("predict", "--run", tmp_path, "--images", tmp_path / "one.png", *out)
    assert (answer.code, answer.err) == (
        2,
        f"Error: {tmp_path} holds no model: expected a finished run's folder, or one with model.safetensors, "
        "got neither\n",
    )
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"x")
    answer = cli("predict", "--run", run, "--images", tmp_path / "one.png", "--pretrained", wrong, *out)
    half = f"Error: weights {wrong} are cut off, half a download (1 of 129 bytes). Download it again\n"
    assert (answer.code, answer.err) == (2, half)
    (tmp_path / "bad.png").write_bytes(b"x")
    answer = cli("predict", "--run", run, "--images", tmp_path / "bad.png", *out)
    assert (answer.code, answer.out, answer.err) == (
        1,
        "",
        f"Error: no image could be read, {out[1]} is not written: {tmp_path / 'bad.png'} "
        "(not an image of a known format)\n",
    )
    assert not out[1].exists()
