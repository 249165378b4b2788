"""Runs repeated from their folders: equal bytes; what differs is named."""

import json

import pytest
from factories.runs import forge

from unimos_pipe.base.errors import InputError
from unimos_pipe.experiments.rerun import rerun

RECIPE = """name = "ten"
dataset = "icons"
pairs = ["line->sketch", "color->solid"]
seeds = 2
methods = ["unimos", "zero-shot", "gda", "fused"]
calibrate = true
[options.train]
epochs = 1
"""


@pytest.fixture(scope="module")
def sweep(cli, icons_cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ten")
    recipe = folder / "ten.toml"
    recipe.write_text(RECIPE)
    assert cli("sweep", recipe, "--cache", icons_cache, "--runs", folder / "runs").code == 0
    return folder / "runs" / "ten"


def test_ten_runs_of_a_sweep_are_repeated_to_the_byte(cli, sweep, icons_cache):
    """The stack of four and lone runs: their bytes are compared, see tests/methods/test_stack_independence.py."""
    before = {path: path.read_bytes() for path in sweep.rglob("*") if path.is_file()}
    answer = cli("rerun", sweep, "--cache", icons_cache)
    assert (answer.code, answer.out) == (0, "10 of 10 runs repeated to equal bytes\n")
    assert before == {path: path.read_bytes() for path in sweep.rglob("*") if path.is_file()}
    result = json.loads(next(sweep.rglob("full*/seed0/result.json")).read_text())
    assert result["stack"]["runs"] > 1 and "stack" not in json.loads(next(sweep.rglob("config.json")).read_text())


def test_what_differs_is_named(cli, sweep, icons_cache, tmp_path):
    (run,) = sweep.rglob("line-sketch/gda/seed0/config.json")
    forge(run.parent, "predictions.csv", lambda content: content.replace(b"0.9", b"0.8", 1))
    answer = cli("rerun", run.parent, "--cache", icons_cache)
    assert answer.code == 1 and answer.out == "0 of 1 runs repeated to equal bytes\n"
    assert f"{run.parent}: predictions.csv differ; accuracy " in answer.err
    with pytest.raises(InputError, match="no finished run in"):
        rerun([tmp_path])


def test_a_sweep_is_repeated_from_its_recipe_json(cli, sweep, icons_cache, tmp_path):
    answer = cli("sweep", sweep / "recipe.json", "--cache", icons_cache, "--runs", tmp_path, "--dry-run")
    assert answer.code == 0 and answer.out.startswith("ten: 10 runs, 0 finished, ")
