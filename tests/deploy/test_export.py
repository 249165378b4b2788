"""Export: equal predictions in a new process, hub layout, model card, and ONNX compared with torch."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rounding import half_precision_bound
from safetensors.torch import load_file, save_file

import unimos_pipe
from unimos_pipe.base.errors import ExecutionError, InputError
from unimos_pipe.data.build_manifest import find_root
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.data.image_decoding import decode
from unimos_pipe.deploy import export
from unimos_pipe.deploy.model_card import render_card

pytestmark = pytest.mark.numerical
FRESH = """
import sys, numpy as np, unimos_pipe
images = sys.argv[3:]
np.save(sys.argv[2], unimos_pipe.load(sys.argv[1]).predict(images).probabilities.numpy())
"""


@pytest.fixture(scope="module")
def made(cli, icons_cache, tmp_path_factory):
    """A short run, its export, and three images."""
    folder = tmp_path_factory.mktemp("export")
    pair = ("--dataset", "icons", "--src", "line", "--tgt", "sketch")
    assert cli("adapt", *pair, "--epochs", 3, "--cache", icons_cache, "--out", folder / "run").code == 0
    images = sorted((find_root(load_spec("icons"), None, icons_cache) / "sketch" / "cat").iterdir())[:6]
    answer = cli(
        "export", "--run", folder / "run", "--out", folder / "model", "--onnx", "--with-encoder", images[0].parent
    )
    assert answer.code == 0, answer.err
    return folder, images, answer


def test_a_fresh_process_gives_the_same_probabilities(made):
    folder, images, _ = made
    model = unimos_pipe.load(folder / "run", "cpu")
    ours = model.predict(images)
    subprocess.run([sys.executable, "-c", FRESH, folder / "model", folder / "p.npy", *images], check=True)
    pixels = torch.stack([model.encoder().preprocess(decode(path)) for path in images])
    bound = half_precision_bound(model, model.encoder().encode_images(pixels))  # its threads are as many as it likes
    np.testing.assert_allclose(np.load(folder / "p.npy"), ours.probabilities.numpy(), rtol=0, atol=bound)
    assert ours.probabilities.shape == ours.vac.shape == ours.lac.shape == (6, 36)
    assert ours.labels == [best[0][0] for best in ours.top(2)]


def test_the_layout_of_a_model_hub(made, tmp_path):
    folder, images, _ = made
    names = {path.name for path in (folder / "model").iterdir()}
    assert names == {"config.json", "model.safetensors", "README.md", "heads.onnx", "model.onnx"}
    model = unimos_pipe.AdaptedModel.from_pretrained(str(folder / "model"))
    model.save_pretrained(tmp_path / "again")
    for name in ("config.json", "README.md"):
        assert (tmp_path / "again" / name).read_text() == (folder / "model" / name).read_text()
    again = unimos_pipe.load(tmp_path / "again").predict(images[:2]).probabilities
    assert torch.equal(again, model.predict(images[:2]).probabilities)


def test_onnx_agrees_with_ours(made):
    import onnxruntime

    folder, images, answer = made
    notes = re.findall(r"^(\S+): probabilities of onnxruntime differ by at most (\S+)$", answer.err, re.MULTILINE)
    assert [name for name, _ in notes] == ["heads.onnx", "model.onnx"]
    assert all(float(difference) <= export.TOLERANCE for _, difference in notes)
    model = unimos_pipe.load(folder / "model", "cpu")
    rows = load_file(folder / "run" / "sample.safetensors")["target_image"].float()
    session = onnxruntime.InferenceSession(folder / "model" / "heads.onnx")
    theirs = session.run(["probabilities", "raw", "vac", "lac"], {"features": rows.numpy()})
    answers = model.predict_features(rows)
    # float32: logits up to some hundred are off by 1e-5 after sums of 128 terms, and probabilities by no more
    for values, ours in zip(theirs, (answers.probabilities, answers.raw, answers.vac, answers.lac), strict=True):
        np.testing.assert_allclose(values, ours.numpy(), rtol=0, atol=1e-4)
    pixels = torch.stack([model.encoder().preprocess(decode(path)) for path in images])
    session = onnxruntime.InferenceSession(folder / "model" / "model.onnx")
    theirs = session.run(["probabilities"], {"pixels": pixels.numpy()})[0]
    features = model.encoder().encode_images(pixels)
    # float32 again: features are off by the encoder's rounding, which moves no probability as far as half precision
    bound = half_precision_bound(model, features)
    np.testing.assert_allclose(theirs, model.predict_features(features).probabilities, rtol=0, atol=bound)


def test_a_difference_in_any_output_fails_the_export(monkeypatch, tmp_path):
    """The first output agrees and the second does not."""
    import onnxruntime

    class Graph(torch.nn.Module):
        def forward(self, rows):
            return rows.softmax(-1), rows.softmax(-1)

    rows = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    equal = rows.softmax(-1).numpy()
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **kwargs: None)
    session = SimpleNamespace(run=lambda names, feeds: [equal, equal + np.float32(0.25)])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *args, **kwargs: session)
    with pytest.raises(ExecutionError, match=r"^a\.onnx: onnxruntime's probabilities: expected .*, got .*0\.25"):
        export._write_onnx(Graph(), rows, "features", tmp_path / "a.onnx")


def test_the_card_says_what_it_adapts_and_its_limits(made):
    folder, _, _ = made
    text = (folder / "model" / "README.md").read_text()
    accuracy = json.loads((folder / "run" / "result.json").read_text())["accuracy"]
    assert text.startswith("---\nlibrary_name:") and "# CLIP adapted to sketch (icons)" in text
    assert f"| this model, last epoch | {100 * accuracy['last']['accuracy']:.1f} |" in text
    assert "trained on 624 labelled line and 716 unlabelled sketch images" in text and "## Limits" in text
    settings = json.loads((folder / "model" / "config.json").read_text())
    settings["classes"][0] = "<script>`*"
    settings["about"]["accuracy"] = None
    text = render_card(settings)
    assert "&lt;script&gt;\\`\\*" in text and "The target has no labels, so the accuracy is unknown." in text


@pytest.mark.parametrize(
    ("temperature", "basis", "sentence"),
    [
        (None, None, "Probabilities are not calibrated."),
        (
            2.0,
            "source",
            "temperature, 2, fitted to held-out images of line; on sketch they may still be overconfident.",
        ),
        (
            0.5,
            "estimate",
            "temperature, 0.5, with which their mean on sketch is the accuracy that was estimated there without "
            "labels; they inherit the error of that estimate.",
        ),
    ],
)
def test_a_card_says_what_probabilities_were_calibrated_to(made, temperature, basis, sentence):
    settings = json.loads((made[0] / "model" / "config.json").read_text())
    assert settings["about"]["calibration_basis"] == "source"  # UniMoS's
    settings |= {"temperature": temperature, "about": {**settings["about"], "calibration_basis": basis}}
    assert sentence in render_card(settings)
    if basis == "source":
        assert (
            "with which their mean on sketch is that of stacked fusion, which is fitted to held-out images of line; on "
            "sketch they may still be overconfident."
        ) in render_card({**settings, "method": "auto"})


def test_what_is_no_model_is_refused(made, cli, tmp_path):
    folder, _, _ = made
    config = json.loads((folder / "model" / "config.json").read_text())
    tensors = load_file(folder / "model" / "model.safetensors")
    faults = [
        ({**config, "format": 4}, tensors, r"config\.json: expected format 3 with format, classes, .*, got format 4"),
        ({**config, "classes": ["one"]}, tensors, r"classes: expected two or more names"),
        ({**config, "encoder": {}}, tensors, r"encoder: expected the fields activation, model"),
        ({**config, "classes": config["classes"][1:]}, tensors, r"text_features: expected \(35, D\), got \[36, 128\]"),
        (
            config,
            {k: v for k, v in tensors.items() if k != "label_prior"},
            r"expected label_prior of shape \(36,\), got none",
        ),
    ]
    for values, arrays, message in faults:
        (tmp_path / "config.json").write_text(json.dumps(values))
        save_file(arrays, tmp_path / "model.safetensors")
        with pytest.raises(InputError, match=message):
            unimos_pipe.load(tmp_path, allow_edited=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious.txt").write_text("x")
    answer = cli("export", "--run", folder / "run", "--out", tmp_path / "other")
    assert (answer.code, answer.err) == (
        2,
        f"Error: {tmp_path / 'other'} is not empty and not an exported model that this tool made; "
        "choose another --out\n",
    )
    assert (tmp_path / "other" / "precious.txt").is_file()
    assert cli("export", "--run", folder / "run", "--out", tmp_path / "m", "--with-encoder", tmp_path).err == (
        "Error: --with-encoder needs --onnx\n"
    )
    with pytest.raises(InputError, match=r"^images needs onnx=True$"):
        unimos_pipe.export_run(folder / "run", tmp_path / "m", images=[tmp_path])


def test_other_weights_than_the_runs_own_are_refused(made):
    folder, images, _ = made
    model = unimos_pipe.load(folder / "model", "cpu")
    config = {**model.settings, "encoder": {**model.settings["encoder"], "weights_sha256": "00" * 32}}
    other = unimos_pipe.AdaptedModel(config, load_file(folder / "model" / "model.safetensors"), "cpu")
    with pytest.raises(
        InputError, match="the encoder is not the one this model was trained on: weights_sha256: expected 00"
    ):
        other.predict(images)
