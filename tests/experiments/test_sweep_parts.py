"""Parts of a sweep as array jobs: beside each other in one folder, with the bytes of the whole."""

import os
import subprocess
import sys

import pytest

from unimos_pipe.base.errors import InputError
from unimos_pipe.base.locks import writer_lock
from unimos_pipe.experiments.sweep import plan_runs, take_shard
from unimos_pipe.runs.read_recipe import load_recipe
from unimos_pipe.runs.recipe import Recipe

RECIPE = """name = "parts"
dataset = "icons"
pairs = ["line->sketch", "color->solid"]
seeds = 2
methods = ["unimos", "gda", "fused"]
[options.train]
epochs = 1
max_steps = 4
[grid]
"loss.alpha" = [0.1, 1.0]
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "parts.toml"
    path.write_text(RECIPE)
    return path


def test_parts_are_disjoint_complete_and_keep_seeds_together(recipe, tmp_path):
    loaded, spec = load_recipe(str(recipe))
    plans = plan_runs(loaded, spec, "tiny", tmp_path, "cpu")
    parts = [take_shard(plans, (k, 4)) for k in (1, 2, 3, 4)]
    assert [*map(len, parts)] == [3, 3, 3, 3] and len(plans) == 12
    assert {plan.folder for part in parts for plan in part} == {plan.folder for plan in plans}
    for part in parts:
        unimos = [plan.spec for plan in part if plan.spec.method == "unimos"]
        assert sorted(spec.seed for spec in unimos) == [0, 1] * (len(unimos) // 2) or len(unimos) % 2 == 0
    with pytest.raises(InputError, match=r"shard 9/9: the sweep has only 8 parts"):
        take_shard(plans, (9, 9))
    with pytest.raises(InputError, match="K/N with K from 1 to N"):
        take_shard(plans, (0, 4))
    assert isinstance(loaded, Recipe)


def test_four_parts_beside_each_other_give_the_bytes_of_one(cli, recipe, icons_cache, tmp_path):
    """While another part holds its lock; what two processes write at once is whole, see the trials of kills."""
    args = ("sweep", recipe, "--cache", icons_cache, "--stack-size", 1)
    assert cli(*args, "--runs", tmp_path / "whole").code == 0
    together = (*args, "--runs", tmp_path / "parts")
    with writer_lock(tmp_path / "parts" / "parts" / "shard-4-of-4"):
        assert [cli(*together, "--shard", f"{k}/4").code for k in (3, 1, 2)] == [0, 0, 0]
        taken = cli(*together, "--shard", "4/4")
        assert taken.code == 2 and "shard-4-of-4" in taken.err
    assert cli(*together, "--shard", "4/4").code == 0
    again = cli(*together)
    assert again.code == 0 and "0 run(s) trained, 12 kept, 0 failed" in again.err

    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")


def contents(folder):
    """The bytes of every file of every run that does not name times."""
    files = [path for path in folder.rglob("seed*/*") if path.name != "result.json"]
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.mark.slow
def test_four_processes_at_once_give_the_bytes_of_one(recipe, icons_cache, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "unimos_pipe", "sweep", str(recipe), "--cache", str(icons_cache), "--runs"]
    assert subprocess.run([*command, tmp_path / "whole"], env=environment, capture_output=True).returncode == 0
    parts = [
        subprocess.Popen([*command, tmp_path / "parts", "--shard", f"{k}/4"], env=environment, stderr=subprocess.PIPE)
        for k in (1, 2, 3, 4)
    ]
    assert [part.communicate(timeout=300) and part.returncode for part in parts] == [0, 0, 0, 0]
    assert len(contents(tmp_path / "whole")) == 12 * 5
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")


def test_a_part_is_written_k_slash_n(cli, recipe, icons_cache):
    refused = cli("sweep", recipe, "--cache", icons_cache, "--shard", "5/4")
    assert refused.code == 2 and "'5/4': expected K/N with K from 1 to N, such as 3/16" in refused.err
