"""Edited exports are refused by their digest, and by invalid values."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import unimos_pipe
from unimos_pipe.base.errors import ExecutionError, InputError


@pytest.fixture(scope="module")
def model(cli, icons_cache, tmp_path_factory) -> Path:
    """An export of a short run."""
    folder = tmp_path_factory.mktemp("exported")
    pair = ("--dataset", "icons", "--src", "line", "--tgt", "sketch")
    assert cli("adapt", *pair, "--epochs", 1, "--cache", icons_cache, "--out", folder / "run").code == 0
    assert cli("export", "--run", folder / "run", "--out", folder / "model").code == 0
    return folder / "model"


def of_config(change):
    """An edit of ``config.json``'s values, in place."""

    def edit(folder: Path) -> None:
        path = folder / "config.json"
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    return edit


def of_tensors(change):
    """An edit of the tensors, in place."""

    def edit(folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return edit


def put(*keys: str, value):
    """Set one value of the config."""

    def change(values: dict) -> None:
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = value

    return of_config(change)


def swap_classes(values: dict) -> None:
    values["classes"][:2] = values["classes"][1::-1]


def flip_a_bit(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)


def lower_precision(tensors: dict) -> None:
    tensors.update({name: array.astype(np.float16) for name, array in tensors.items()})


def text(change):
    return of_tensors(lambda tensors: tensors.update(text_features=change(tensors["text_features"])))


def with_nan(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array[0, 0] = np.nan
    return array


EDITS = {  # what was done -> the edit, and what is said where edits are allowed; None: it is loaded
    "classes in another order": (of_config(swap_classes), None),
    "a class twice": (
        of_config(lambda values: values["classes"].__setitem__(1, values["classes"][0])),
        "the model's config.json: classes: expected distinct names, got 'airplane'",
    ),
    "a class renamed": (of_config(lambda values: values["classes"].__setitem__(0, "ship")), None),
    "a class without a name": (
        of_config(lambda values: values["classes"].__setitem__(0, " ")),
        "the model's config.json: classes: expected distinct names, got ' '",
    ),
    "text in another order": (text(lambda array: array[::-1].copy()), None),
    "text of zeros": (
        text(np.zeros_like), "the model's text_features are not finite or not of unit norm (36 of 36)"
    ),
    "text all alike": (
        text(lambda array: np.repeat(array[:1], len(array), 0)), "the model's text_features are all alike (36 classes)"
    ),
    "text not of unit norm": (
        text(lambda array: 2 * array), "the model's text_features are not finite or not of unit norm (36 of 36)"
    ),
    "text that is not finite": (
        text(with_nan), "the model's tensors: expected finite values, got text_features with others"
    ),
    "a bit flipped": (flip_a_bit, None),
    "another precision": (
        of_tensors(lower_precision), "the model's tensors: expected all float32, or all float64, got float16"
    ),
    "a class's weights of another": (
        of_tensors(lambda tensors: tensors["classifier.weight_v"].__setitem__(0, tensors["classifier.weight_v"][1])),
        None,
    ),
    "another label prior": (
        of_tensors(lambda tensors: tensors.update(label_prior=3 * tensors["label_prior"])),
        "the model's label_prior: expected shares that sum to 1, got a sum of 3",
    ),
    "a negative variance": (
        of_tensors(lambda tensors: tensors["bottleneck_bn.running_var"].__setitem__(0, -1)),
        "the model's bottleneck_bn.running_var: expected no negative values, got -1.0",
    ),
    "another temperature": (put("temperature", value=2.0), None),
    "a temperature out of range": (
        put("temperature", value=1e9),
        "the model's config.json: temperature: expected a number from 0.01 to 100.0, got 1000000000.0",
    ),
    "other weights": (put("encoder", "weights_sha256", value="0" * 64), None),
    "no weights": (
        put("encoder", "weights_sha256", value="x"),
        "the model's config.json: encoder.weights_sha256: expected 64 hexadecimal digits, got 'x'",
    ),
    "another precision of the encoder": (
        put("encoder", "precision", value="fp8"),
        "the model's config.json: encoder.precision: expected one of bf16, fp16, fp32, imported, got fp8",
    ),
    "another option": (put("options", "eval", "debias_tau", value=0.9), None),
    "a better accuracy": (put("about", "accuracy", "last", value=0.999), None),
    "an accuracy above 1": (
        put("about", "accuracy", "last", value=99.9),
        "the model's config.json: about.accuracy: expected fractions from 0 to 1",
    ),
    "the digest taken out": (of_config(lambda values: values.pop("digest")), None),
}  # fmt: skip


@pytest.mark.parametrize("what", EDITS)
def test_an_edited_export_is_refused_and_what_means_nothing_always(what, model, tmp_path):
    edit, fault = EDITS[what]
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    edit(folder)
    made = "was made by an earlier version, without a digest" if "digest" in what else "was edited or damaged"
    with pytest.raises(InputError) as caught:
        unimos_pipe.load(folder, "cpu")
    assert str(caught.value) == (
        f"{folder} {made}: config.json and model.safetensors cannot be verified. "
        "Export the run again; allow_edited=True loads it unverified"
    )
    if fault is None:
        assert len(unimos_pipe.load(folder, "cpu", allow_edited=True).classes) == 36
        return
    with pytest.raises(InputError) as caught:
        unimos_pipe.load(folder, "cpu", allow_edited=True)
    assert str(caught.value).startswith(fault)


def test_the_command_line_asks_for_the_same(model, cli, icons_cache, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    put("temperature", value=2.0)(folder)
    command = ("predict", "--run", folder, "--domain", "sketch", "--cache", icons_cache, "-o", tmp_path / "a.csv")
    answer = cli(*command)
    assert answer.code == 2 and "was edited or damaged" in answer.err and not (tmp_path / "a.csv").exists()
    assert cli(*command, "--allow-edited").code == 0


def test_answers_that_are_not_finite_are_an_error(model):
    loaded = unimos_pipe.load(model, "cpu")
    features = loaded.text.clone()
    features[3, 0] = float("nan")
    with pytest.raises(ExecutionError, match=r"1 of 36 predictions are not finite\."):
        loaded.predict_features(features)
