"""The short programs of pipelines/: serve.py, add_a_loss.py and from_arrays.py."""

import csv
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from rounding import half_precision_bound
from subprocesses import program

import unimos_pipe
from unimos_pipe.base import plugins
from unimos_pipe.methods.unimos.loss_terms import LOSSES


@pytest.fixture(scope="module")
def service(icons_cache):
    client = pytest.importorskip("fastapi.testclient")
    task = unimos_pipe.make_task(unimos_pipe.feature_set("icons", cache=icons_cache), "line", "sketch", device="cpu")
    model = unimos_pipe.adapt_task(task, settings={"train.epochs": 1})
    with client.TestClient(program("serve").make_app(model, program("serve").Limits(max_bytes=50_000))) as asked:
        yield model, asked


def png(size: int = 64) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((size, size), 90).save(file, "PNG")
    return file.getvalue()


@pytest.mark.numerical
def test_an_upload_gets_class_probability_and_both_branches(service):
    model, asked = service
    about = asked.get("/").json()
    assert (about["target"], about["method"], len(about["classes"])) == ("sketch", "unimos", 36)
    image = png()
    (wanted,) = model.predict(image).records()
    del wanted["error"]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: asked.post("/predict", files={"file": ("a.png", image)}), range(8)))
    assert [answer.status_code for answer in found] == [200] * 8
    pixels = torch.stack([model.encoder().preprocess(Image.open(io.BytesIO(image)).convert("RGB"))])
    bound = half_precision_bound(model, model.encoder().encode_images(pixels))
    for answer in found:
        assert answer.json() == pytest.approx(wanted, abs=bound)


def test_what_is_refused(service):
    _, asked = service
    broken = asked.post("/predict", files={"file": ("a.png", b"no image")})
    assert (broken.status_code, broken.json()) == (422, {"detail": "a.png: not an image of a known format"})
    large = asked.post("/predict", files={"file": ("a.png", png(400))})
    assert (large.status_code, large.json()) == (413, {"detail": "more than 50,000 bytes"})
    assert asked.post("/predict").status_code == 422


FORM = {"Content-Type": "multipart/form-data; boundary=edge"}
HEAD = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'


def test_a_chunked_body_is_counted(service):
    _, asked = service
    parts = [HEAD, png(), b"\r\n--edge--\r\n"]
    assert asked.post("/predict", headers=FORM, content=iter(parts)).status_code == 200
    endless = asked.post("/predict", headers=FORM, content=iter([HEAD, *[b"x" * 10_000] * 6]))
    assert (endless.status_code, endless.json()) == (413, {"detail": "more than 50,000 bytes"})
    assert endless.headers["connection"] == "close"


def test_pixels_waiting_images_and_slow_bodies_have_limits(service):
    model, _ = service
    client, serve = pytest.importorskip("fastapi.testclient"), program("serve")
    upload = {"files": {"file": ("a.png", png())}}
    for limits, code, detail in (
        (serve.Limits(max_pixels=4000), 422, "a.png: ValueError: 64 x 64 pixels, more than 4,000"),
        (serve.Limits(waiting=0), 503, "0 images wait already; try again"),
        (serve.Limits(connections=0), 503, "too many requests at once; try again"),
        (serve.Limits(body_seconds=-1), 408, "no whole body within -1 s"),
        (serve.Limits(decode_seconds=0), 422, "a.png: not decoded after 0 s"),
    ):
        with client.TestClient(serve.make_app(model, limits)) as asked:
            answer = asked.post("/predict", **upload)
        assert (answer.status_code, answer.json()) == (code, {"detail": detail})


def test_a_loss_from_outside_changes_training(icons_cache, monkeypatch):
    monkeypatch.setenv("UNIMOS_CACHE", str(icons_cache))
    try:
        found = program("add_a_loss").main([0.0, 30.0], epochs=2)
    finally:  # other tests know no such loss
        plugins._registered[plugins.LOSSES].clear()
        LOSSES.pop("vision_entropy", None)
    assert found[0.0] != found[30.0]
    task = unimos_pipe.make_task("icons", "line", "sketch")
    plain = unimos_pipe.adapt_task(task, settings={"train.epochs": 2}).settings["about"]["accuracy"]["last"]
    assert found[0.0] == plain


def test_arrays_of_any_encoder(tmp_path):
    rng = np.random.default_rng(0)
    centres, names = rng.normal(size=(3, 16)), np.array(["square", "bar", "circle"])
    labels, truth = np.arange(60) % 3, np.arange(45) % 3
    np.savez(
        tmp_path / "features.npz",
        source=centres[labels] + 0.2 * rng.normal(size=(60, 16)),
        labels=names[labels],
        target=centres[truth] + 0.3 + 0.2 * rng.normal(size=(45, 16)),
        text=centres,
        classes=names,
    )
    program("from_arrays").main(tmp_path / "features.npz", tmp_path / "answers.csv")
    with (tmp_path / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["row", "unimos", "zero-shot", "fused", "linear-im"] and len(rows) == 45
    for method in list(rows[0])[1:]:
        assert sum(row[method] == names[k] for row, k in zip(rows, truth, strict=True)) >= 44, method
