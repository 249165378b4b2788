"""Finished runs whose method's source has changed since: kept with a warning, made again, or an error."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import unimos_pipe
from unimos_pipe.methods.method_code import method_code
from unimos_pipe.training import batched_training

PROJECT = Path(__file__).parents[2]
RECIPE = 'name = "one"\ndataset = "icons"\npairs = ["line->sketch"]\nmethods = ["gda", "zero-shot"]\n'


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "one.toml"
    path.write_text(RECIPE)
    return path


def accuracy(runs: Path) -> float:
    (path,) = runs.glob("one/icons/*/line-sketch/gda/seed0/result.json")
    return json.loads(path.read_text())["accuracy"]["last"]["accuracy"]


def test_a_mended_method_is_not_taken_for_the_broken_one(cli, recipe, icons_cache, tmp_path):
    """A copy of the package whose method inverts its answers runs a sweep; the package itself sweeps again."""
    copy = tmp_path / "copy"
    shutil.copytree(PROJECT / "unimos_pipe", copy / "unimos_pipe", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("data_manifests", "pipelines"):
        (copy / folder).symlink_to(PROJECT / folder)
    method, runs = copy / "unimos_pipe" / "methods" / "gda.py", tmp_path / "runs"
    whole = method.read_text()
    method.write_text(f"{whole}\n\nright = fit\n\n\ndef fit(task):\n    return MethodOutput(-right(task).logits)\n")
    if "MethodOutput" not in whole.partition("def ")[0]:
        method.write_text("from unimos_pipe.methods.base import MethodOutput\n" + method.read_text())
    words = ("sweep", recipe, "--cache", icons_cache, "--runs", runs)
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    subprocess.run([sys.executable, "-m", "unimos_pipe", *words], env=environment, cwd=tmp_path, check=True)
    assert accuracy(runs) < 0.1
    kept = cli(*words)
    assert kept.code == 0 and accuracy(runs) < 0.1
    line = "1 kept run(s) were trained with different code (unimos_pipe.methods.gda); --stale rerun retrains them"
    assert line in " ".join(kept.err.split())
    again = cli(*words, "--stale", "rerun")
    assert again.code == 0 and accuracy(runs) > 0.6
    assert "1 run(s) trained, 1 kept, 0 failed" in again.err and "other code" not in again.err


def test_what_a_sweep_says_and_does(cli, recipe, icons_cache, tmp_path, monkeypatch):
    args = ("sweep", recipe, "--cache", icons_cache, "--runs", tmp_path / "runs")
    assert cli(*args).code == 0
    (path,) = (tmp_path / "runs").rglob("gda/seed0/config.json")
    config = json.loads(path.read_text())
    assert config["code"] == method_code("gda") and "unimos_pipe.methods.gda" in config["code"]
    result = json.loads((path.parent / "result.json").read_text())
    assert result["command"] and {"commit", "threads", "device", "unimos-pipe"} <= config["environment"].keys()
    unchanged = cli(*args, "--stale", "error")
    assert unchanged.code == 0 and "other code" not in unchanged.err
    other = {**method_code("gda"), "unimos_pipe.methods.gda": "0" * 16}
    real = batched_training.method_code
    monkeypatch.setattr(batched_training, "method_code", lambda name, losses=(): other if name == "gda" else real(name))
    assert cli(*args, "--dry-run").out.startswith("one: 2 runs, 2 finished (1 by other code), 0 stacks and 0 steps")
    refused = cli(*args, "--stale", "error")
    assert refused.code == 2
    assert refused.err == (
        f"Error: 1 finished run(s) were made by other code: {path.parent} (unimos_pipe.methods.gda)\n"
    )
    assert "1 kept run(s) were trained with different code (unimos_pipe.methods.gda)" in cli(*args).err
    assert "1 run(s) trained, 1 kept, 0 failed" in cli(*args, "--stale", "rerun").err


def test_adapt_makes_a_finished_run_again_only_where_its_code_has_changed(cli, icons_cache, tmp_path, monkeypatch):
    words = ("--dataset", "icons", "--src", "line", "--tgt", "sketch", "--method", "zero-shot", "--no-calibrate")
    args = ("adapt", *words, "--cache", icons_cache, "--out", tmp_path / "run")
    assert cli(*args).code == 0
    assert cli(*args, "--stale", "rerun").code == 2
    monkeypatch.setattr(
        batched_training, "method_code", lambda name, losses=(): {"unimos_pipe.methods.zero_shot": "0" * 16}
    )
    assert cli(*args).code == 2
    assert cli(*args, "--stale", "rerun").code == 0


def test_a_location_may_be_given_as_text():
    assert unimos_pipe.RunLocation(runs="x") == unimos_pipe.RunLocation(runs=Path("x"))
