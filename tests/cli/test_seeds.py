"""Seeds added to a finished run: the finished is kept, and mean and spread are those of all."""

import json
from statistics import mean, stdev

import pytest


@pytest.fixture
def words(cli, miniature, tmp_path):
    """The command of a pair of the miniature with cached features."""
    cache = tmp_path / "cache"
    answer = cli("extract", *miniature.args(cache), "--all", "--data-root", miniature.root, "--workers", 0)
    assert answer.code == 0, answer.err
    pair = ("--src", "dark", "--tgt", "light", "--epochs", 2, "--runs", tmp_path / "runs")
    return "adapt", *miniature.args(cache), *pair


def test_seeds_beside_a_finished_one_are_trained_alone(cli, words, tmp_path):
    assert cli(*words).code == 0
    (first,) = (tmp_path / "runs").rglob("seed0")
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in first.iterdir()}
    answer = cli(*words, "--seeds", 3)
    assert answer.code == 0, answer.err
    assert before == {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in first.iterdir()}
    folders = [first.with_name(f"seed{seed}") for seed in range(3)]
    notes = [line for line in answer.err.splitlines() if line.startswith("  ")]
    assert notes == [f"  kept in {first}", *(f"  written to {folder}" for folder in folders[1:])]
    results = [json.loads((folder / "result.json").read_text()) for folder in folders]
    figures = [100 * result["accuracy"]["last"]["accuracy"] for result in results]
    told = f"accuracy {mean(figures):.1f} ± {stdev(figures):.1f} (mean ± std over seeds)"
    assert answer.out.splitlines()[-1] == f"dark -> light, full,epochs=2, 3 seeds: {told}"
    again = cli(*words, "--seeds", 3)
    assert (again.code, again.out) == (0, answer.out)
    assert cli(*words).code == 2  # a lone finished run is refused as ever
    forced = cli(*words, "--seeds", 3, "--force")
    assert forced.code == 0 and "kept in" not in forced.err
    assert first.stat().st_mtime_ns != before["result.json"][1]


def test_a_lone_seed_has_no_spread(cli, words):
    assert "±" not in cli(*words).out
