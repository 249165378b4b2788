"""Image inputs: paths, PIL images, bytes and arrays, one or several, from several threads."""

import io
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rounding import half_precision_bound

import unimos_pipe
from unimos_pipe.base.errors import InputError
from unimos_pipe.data.build_manifest import find_root
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.data.image_decoding import decode
from unimos_pipe.deploy.image_inputs import normalise_inputs
from unimos_pipe.extract import plugin_encoder

pytestmark = pytest.mark.numerical
THREADS, ROUNDS = 8, 3


@pytest.fixture(scope="module")
def saved(icons_cache, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    task = unimos_pipe.make_task(unimos_pipe.feature_set("icons", cache=icons_cache), "line", "sketch", device="cpu")
    unimos_pipe.adapt_task(task, settings={"train.epochs": 1}).save_pretrained(folder)
    return folder


@pytest.fixture
def files(icons_cache) -> list[Path]:
    root = find_root(load_spec("icons"), None, icons_cache) / "sketch"
    return sorted(root.rglob("*.png"))[:: 716 // 16][:16]


@pytest.fixture
def model(saved):
    return unimos_pipe.load(saved, "cpu")


@pytest.fixture
def bound(model, files) -> float:
    """Return a bound on rounding differences of these images' probabilities by batch size, threads or CPU."""
    pixels = torch.stack([model.encoder().preprocess(decode(path)) for path in files])
    return half_precision_bound(model, model.encoder().encode_images(pixels))


def test_open_files_are_read_and_addresses_refused(tmp_path):
    assert normalise_inputs(io.BytesIO(b"one\ntwo")) == [b"one\ntwo"]
    (tmp_path / "a.jpg").write_bytes(b"a\nb")
    with (tmp_path / "a.jpg").open("rb") as file:
        assert normalise_inputs([file, tmp_path / "b.jpg"]) == [b"a\nb", tmp_path / "b.jpg"]
    with pytest.raises(InputError, match=r"^image 0: expected a file opened for reading bytes, got a file of text$"):
        normalise_inputs(io.StringIO("a"))
    with pytest.raises(InputError) as caught:
        normalise_inputs("https://example.org/a.jpg")
    assert str(caught.value) == (
        "https://example.org/a.jpg is an address, not a file. Download it and give the file, or its bytes"
    )


def test_every_form_of_an_image_has_the_same_answer(model, files, bound):
    path = files[0]
    with Image.open(path) as image:
        shown = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    array = np.asarray(shown)
    forms = [str(path), path, shown, path.read_bytes(), bytearray(path.read_bytes()), array, array[:, ::-1][:, ::-1]]
    alone = [model.predict(form) for form in forms]
    assert [len(answers) for answers in alone] == [1] * len(forms)
    together = model.predict(forms)
    wanted = alone[0].probabilities[0]
    assert (model.predict(files[1]).probabilities[0] - wanted).abs().max() > 10 * bound  # another image's answer
    for row, answers in enumerate(alone):
        np.testing.assert_allclose(answers.probabilities[0], wanted, rtol=0, atol=bound)
        np.testing.assert_allclose(together.probabilities[row], wanted, rtol=0, atol=bound)
    assert together.errors == (None,) * len(forms) and set(together.labels) == set(alone[0].labels)
    assert len(model.predict(np.stack([array, array]))) == 2 and len(model.predict(form for form in forms[:2])) == 2
    assert len(model.predict([])) == 0


def test_every_answer_has_its_error(model, files, tmp_path):
    found = model.predict([files[0], b"", "gone.png", files[1].read_bytes()[:100], b"hello", files[1]], batch_size=2)
    assert found.errors[:3] == (None, "an empty file", "No such file or directory")
    assert found.errors[3].startswith("OSError: ") and found.errors[4:] == ("not an image of a known format", None)
    assert [label is None for label in found.labels] == [bool(error) for error in found.errors]
    assert found.probabilities.isnan().any(-1).tolist() == [bool(error) for error in found.errors]
    record = found.records()[0]
    assert record["class"] == found.labels[0] and record["vac_probability"] == found.vac[0].max()
    assert {name for name, value in found.records()[1].items() if value is not None} == {"error"}


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (None, "images: expected {}, or several of these, got NoneType"),
        (["a.png", None], "image 1: expected {}, got NoneType"),
        (np.zeros((4, 4, 3)), "image 0: expected {}, got float64 of shape (4, 4, 3)"),
        ([np.zeros((4, 4), np.uint8)], "image 0: expected {}, got uint8 of shape (4, 4)"),
        (np.zeros((4, 4, 4), np.uint8), "image 0: expected {}, got uint8 of shape (4, 4, 4)"),
    ],
)
def test_what_is_no_image_is_the_callers_mistake(model, images, told):
    with pytest.raises(InputError) as caught:
        model.predict(images)
    expected = "a path, a PIL image, the bytes of an image file, a file opened for bytes, or a uint8 array (H, W, 3)"
    assert str(caught.value) == told.format(expected)


def test_eight_threads_ask_one_model(model, saved, files, bound, monkeypatch):
    """Every thread gets its own answers; the encoder is loaded once; decompression bombs are refused in all of them."""
    loaded = []
    load = plugin_encoder.open_encoder
    monkeypatch.setattr(plugin_encoder, "open_encoder", lambda *args: loaded.append(args) or load(*args))
    large = io.BytesIO()
    Image.new("1", (20_001, 10_000)).save(large, "PNG")
    model = unimos_pipe.load(saved, "cpu")
    wanted = model.predict(files).probabilities
    apart = torch.cdist(wanted, wanted, p=torch.inf).fill_diagonal_(1)
    assert apart.min() > 10 * bound  # no image's answer passes for another's
    model = unimos_pipe.load(saved, "cpu")
    loaded.clear()
    filters = list(warnings.filters)

    def ask(thread: int) -> None:
        for start in range(ROUNDS):
            rows = [(thread + start + step) % len(files) for step in range(5)]
            found = model.predict(
                [*(files[row] for row in rows[:3]), large.getvalue(), *(files[row] for row in rows[3:])]
            )
            assert [error is None for error in found.errors] == [True, True, True, False, True, True]
            assert found.errors[3].endswith(" pixels, more than 200,000,000")
            np.testing.assert_allclose(found.probabilities[[0, 1, 2, 4, 5]], wanted[rows], rtol=0, atol=bound)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(ask, range(THREADS)))
    assert len(loaded) == 1 and warnings.filters == filters
