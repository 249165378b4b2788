"""Deployment of variant fused-teacher: it uses its own text features, and the card names the extension."""

import json

import pytest
import torch
from safetensors.torch import load_file

import unimos_pipe


@pytest.fixture(scope="module")
def run(cli, icons_cache, tmp_path_factory):
    """Two short runs of one seed, as the paper has it and with the fused teacher; the folder of the latter."""
    runs = tmp_path_factory.mktemp("runs")
    for variant in ("full", "fused-teacher"):
        answer = cli("adapt", "--dataset", "icons", "--cache", icons_cache, "--src", "line", "--tgt", "sketch",
                     "--epochs", 2, "--variant", variant, "--out", runs / variant)  # fmt: skip
        assert answer.code == 0, answer.err
    assert answer.out.startswith("line -> sketch, fused-teacher (ours),epochs=2, seed 0 (transductive): accuracy ")
    return runs / "fused-teacher"


def result(folder):
    return json.loads((folder / "result.json").read_text())["accuracy"]


def test_zero_shot_is_that_of_the_prompts(run):
    plain = run.parent / "full"
    assert result(run)["zero_shot"] == result(plain)["zero_shot"]
    assert result(run)["last"]["accuracy"] > result(plain)["last"]["accuracy"] + 0.02
    first = (run / "metrics.jsonl").read_text().splitlines()[0]
    teacher = json.loads(first)["accuracy"]["lac"]
    assert teacher > result(run)["zero_shot"]["accuracy"] + 0.02


def test_predict_and_an_export_answer_with_the_runs_text(cli, icons_cache, run, tmp_path):
    written = (run / "predictions.csv").read_text().splitlines()
    out = tmp_path / "a.csv"
    assert cli("predict", "--run", run, "--domain", "sketch", "--cache", icons_cache, "-o", out).code == 0
    answers = out.read_text().splitlines()
    assert [row.split(",")[:2] for row in answers] == [row.split(",")[:2] for row in written]
    assert cli("export", "--run", run, "--out", tmp_path / "model").code == 0
    model, again = unimos_pipe.load(run, "cpu"), unimos_pipe.load(tmp_path / "model", "cpu")
    assert torch.equal(model.text, load_file(run / "heads.safetensors")["text_features"])
    assert torch.equal(again.text, model.text)
    rows = torch.randn(5, 128, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.predict_features(rows).probabilities, model.predict_features(rows).probabilities)
    plain = unimos_pipe.load(run.parent / "full", "cpu")
    assert not torch.allclose(plain.text, model.text, atol=1e-2)
    told = (
        "as implemented by unimos-pipe, with text features fitted to the source, an extension that is not in the paper."
    )
    assert told in (tmp_path / "model" / "README.md").read_text()
