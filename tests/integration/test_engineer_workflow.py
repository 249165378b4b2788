"""An engineer's afternoon: photos of products and of a phone become a service, each command as the last one told it."""

import csv
import shlex

import pytest
from conftest import Answer
from factories.photos import BROKEN, CLASSES, PHOTOS, PRODUCTS, make_photos
from subprocesses import program


def told(answer: Answer, **places: str) -> list[str]:
    """The words of the command that an answer ends with, its placeholders filled in."""
    assert answer.code == 0, answer.err
    command = answer.err.splitlines()[-1].partition("unimos-pipe ")[2]
    return [places.get(word, word) for word in shlex.split(command)]


def test_from_two_folders_to_a_service(cli, icons_cache, no_figures, tmp_path, monkeypatch):
    pytest.importorskip("jinja2")
    client = pytest.importorskip("fastapi.testclient")
    truth = make_photos(icons_cache, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNIMOS_CACHE", str(tmp_path / "cache"))
    scan = cli(
        "manifest", "scan", "--domain", "shop=shop", "--domain", "phone=DCIM:none", "-o", "my.toml", "--encoder", "tiny"
    )
    assert scan.out.endswith(f"images: shop: {PRODUCTS}, phone: {PHOTOS}\n") and "video 1 (.mov 1)" in scan.err
    words = told(scan)
    assert words == ["extract", "--dataset", "my.toml", "--all"]
    extracted = cli(*words, "--workers", 0)
    assert f"phone: {BROKEN} unreadable image(s) are left out" in extracted.err
    words = told(extracted)
    assert words == ["adapt", "--src", "shop", "--tgt", "phone", "--dataset", "my.toml"]
    adapted = cli(*words, "--epochs", 4, "--out", "phone-run")
    assert f"{PHOTOS - BROKEN} rows without labels predicted" in adapted.out and "estimated accuracy " in adapted.out
    words = told(adapted)
    assert words == ["report", "phone-run"]
    words = told(cli(*words), DIR="DCIM")
    assert words == ["predict", "--run", "phone-run", "--images", "DCIM", "-o", "answers.csv"]
    predicted = cli(*words, "--workers", 0)
    with (tmp_path / "answers.csv").open(newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert len(rows) == PHOTOS and sum(bool(row["error"]) for row in rows.values()) == BROKEN
    right = sum(row["class"] == truth[name] for name, row in rows.items())
    assert right / (PHOTOS - BROKEN) > 0.5 > 1 / CLASSES
    words = told(predicted)
    assert words == ["export", "--run", "phone-run", "--out", "model"]
    words = told(cli(*words), DIR="DCIM")
    assert words[:3] == ["predict", "--run", "model"]

    serve = program("serve")
    with client.TestClient(serve.make_app(serve.unimos_pipe.load("model", "cpu"))) as asked:
        for name in ("IMG_0010.HEIC", "IMG_0011.JPG"):
            found = asked.post("/predict", files={"file": (name, (tmp_path / "DCIM" / name).read_bytes())}).json()
            wanted = rows[name]
            assert (found["class"], found["vac"], found["lac"]) == (wanted["class"], wanted["vac"], wanted["lac"])
            assert found["probability"] == pytest.approx(float(wanted["probability"]), abs=1e-3)
