"""A model that learned its own temperature is adapted and asked with it; CLIP's kin keep METHOD.md's 100."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import unimos_pipe
from unimos_pipe.base.method_config import with_native_logit_scale
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.extract import encoder
from unimos_pipe.methods import zero_shot
from unimos_pipe.runs.recipe import Recipe

PAIR = ("--src", "dark", "--tgt", "light", "--epochs", 2, "--device", "cpu")


@pytest.fixture
def learned(miniature, tmp_path, monkeypatch, cli):
    """Features of an encoder whose 1/T is 33.44, as tiny's own is."""
    plain = encoder.native_logit_scale

    def native_logit_scale(model):
        model.logit_bias = torch.tensor(-10.0)
        return plain(model)

    monkeypatch.setattr(encoder, "native_logit_scale", native_logit_scale)
    args = (*miniature.args(tmp_path / "cache"), "--data-root", miniature.root, "--workers", 0)
    assert cli("extract", *args, "--all").code == 0
    return miniature


def config(run):
    return json.loads((run / "config.json").read_text())


def test_only_a_model_with_a_bias_beside_it_has_its_own():
    """SigLIP's is not bounded by 100; CLIP's is fixed whatever the weights say."""
    scale = torch.tensor(np.log(117.3308), dtype=torch.float16)
    assert encoder.native_logit_scale(SimpleNamespace(logit_scale=torch.tensor(2.0), logit_bias=None)) is None
    assert encoder.native_logit_scale(SimpleNamespace(logit_scale=torch.tensor(2.0))) is None
    found = encoder.native_logit_scale(SimpleNamespace(logit_scale=scale, logit_bias=torch.tensor(-12.9)))
    assert found == round(float(scale.float().exp()), 2) and 117 < found < 118


def test_it_reaches_the_run_and_the_zero_shot_answers(learned, tmp_path, cli):
    args = ("adapt", *learned.args(tmp_path / "cache"), *PAIR, "--out")
    assert cli(*args, tmp_path / "own").code == 0
    own = config(tmp_path / "own")
    assert (own["label"], own["spec"]["options"]["heads"]["temperature_scale"]) == (
        "full,temperature_scale=33.44,epochs=2",
        33.44,
    )
    asked = cli(*args, tmp_path / "clip", "--set", "heads.temperature_scale=100")
    assert asked.code == 0
    assert config(tmp_path / "clip")["label"] == "full,epochs=2"
    assert config(tmp_path / "clip")["identity"] != own["identity"]
    features = unimos_pipe.feature_set(str(learned.spec), cache=tmp_path / "cache")
    task = unimos_pipe.make_task(features, "dark", "light", device="cpu").data.task
    assert task.logit_scale == 33.44
    expected = 33.44 * task.target.features @ task.text_features.T
    assert torch.allclose(zero_shot.fit(task).logits, expected, atol=1e-4)
    recipe = Recipe("r", str(learned.spec), pairs=("dark->light",), seeds=1, options={"train": {"epochs": 1}})
    (run,) = unimos_pipe.run_sweep(recipe, features, tmp_path / "runs").runs
    assert run.spec.changed == {"heads.temperature_scale": 33.44, "train.epochs": 1}


def test_features_of_clip_have_the_methods_own(miniature, tmp_path, cli):
    args = (*miniature.args(tmp_path / "cache"), "--data-root", miniature.root, "--workers", 0)
    assert cli("extract", *args, "--all").code == 0
    store = unimos_pipe.feature_set(str(miniature.spec), cache=tmp_path / "cache").store()
    assert store.read_logit_scale() is None


def test_what_is_set_stands():
    assert with_native_logit_scale({"train.epochs": 1}, None) == {"train.epochs": 1}
    assert with_native_logit_scale({"heads.temperature_scale": 50.0}, 33.44) == {"heads.temperature_scale": 50.0}
    recipe = Recipe("r", "icons", options={"heads": {"temperature_scale": 50.0}})
    assert recipe.with_native_logit_scale(33.44).options == recipe.options
    grid = Recipe("r", "icons", grid={"heads.temperature_scale": [1.0]})
    runs = grid.with_native_logit_scale(33.44).runs(load_spec("icons"), "x")
    assert runs == grid.runs(load_spec("icons"), "x") and grid.with_native_logit_scale(None) == grid
