"""The pipeline from Python, as the README shows it, equals the command line's."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import unimos_pipe
from unimos_pipe.base.errors import UserError


def test_importing_the_package_is_light():
    code = "import sys, unimos_pipe; print('torch' in sys.modules, 'load' in dir(unimos_pipe))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False True\n"
    with pytest.raises(AttributeError, match="module 'unimos_pipe' has no attribute 'nothing'"):
        _ = unimos_pipe.nothing


def test_the_whole_pipeline(miniature, tmp_path, cli):
    store = unimos_pipe.extract_features(
        str(miniature.spec), root=miniature.root, cache=tmp_path / "cache", device="cpu"
    )
    assert store.folder == unimos_pipe.open_store(str(miniature.spec), cache=tmp_path / "cache").folder
    task = unimos_pipe.make_task(store, "dark", "light", device="cpu")
    assert task.data.task.target.features.shape == (24, 128)
    epochs = []
    model = unimos_pipe.adapt_task(task, settings={"train.epochs": 3}, seed=1, on_epoch=epochs.append)
    assert [epoch.epoch for epoch in epochs] == [-1, 0, 1, 2]
    out = tmp_path / "run"
    pair = ("--src", "dark", "--tgt", "light", "--epochs", 3, "--seed", 1, "--device", "cpu")
    assert cli("adapt", *miniature.args(tmp_path / "cache"), *pair, "--out", out).code == 0
    result = json.loads((out / "result.json").read_text())["accuracy"]
    assert model.settings["about"]["accuracy"] == {
        "zero_shot": result["zero_shot"]["accuracy"],
        "last": result["last"]["accuracy"],
    }
    paths = sorted((miniature.root / "light").rglob("*.png"))
    ours, theirs = model.predict(paths), unimos_pipe.load(out, "cpu").predict(paths)
    np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-6)
    with Image.open(paths[0]) as image:  # an open image answers as its file does
        assert model.predict([image, tmp_path / "none.png"]).labels == [ours.labels[0], None]


def test_faults_are_said(tmp_path):
    with pytest.raises(UserError, match="unknown encoder 'huge'; known: tiny, RN50"):
        unimos_pipe.open_store("icons", encoder="huge", cache=tmp_path)
    with pytest.raises(
        UserError, match=r"no features of icons by tinyclip-r24-64_embedded in .*extract --dataset icons"
    ):
        unimos_pipe.open_store("icons", cache=tmp_path)
