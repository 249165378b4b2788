"""Sweeps: one table from many runs, resumed to the byte, with failures that stay alone."""

import contextlib
import json
import re
import shutil

import numpy as np
import pytest
from factories.runs import SMALL_SWEEP, run_spec

from unimos_pipe.cache.feature_calls import extract_call
from unimos_pipe.evaluation import baselines
from unimos_pipe.experiments.results_table import result_rows
from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.runs.run_values import Accuracies, EpochScores, RunMetrics, Scores
from unimos_pipe.runs.statistics import mean_and_std
from unimos_pipe.training import checkpoint
from unimos_pipe.training.batched_training import PlannedRun, RunOutcome

FILES = ("metrics.jsonl", "predictions.csv", "heads.safetensors", "sample.safetensors")


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL_SWEEP)
    return path


def sweep(cli, recipe, cache, runs, *more):
    return cli("sweep", recipe, "--cache", cache, "--runs", runs, "--stack-size", 4, *more)


def contents(runs):
    return {path.relative_to(runs): path.read_bytes() for path in runs.rglob("*") if path.name in FILES}


def test_a_sweep_runs_everything_once_and_shows_one_table(cli, recipe, icons_cache, tmp_path):
    runs = tmp_path / "runs"
    plan = sweep(cli, recipe, icons_cache, runs, "--dry-run")
    assert re.fullmatch(
        r"small: 8 runs, 0 finished, 2 stacks and 544 steps to train, about \d+\.\d minutes here\n", plan.out
    )
    assert not runs.exists()
    first = sweep(cli, recipe, icons_cache, runs, "--show", "oracle", "--show", "bnm", "--show", "probes")
    assert first.code == 0 and f"8 run(s) trained, 0 kept, 0 failed, in {runs}/small\n" in first.err
    results = [json.loads(path.read_text()) for path in sorted(runs.rglob("result.json"))]
    assert len(results) == 8
    again = sweep(cli, recipe, icons_cache, runs, "--show", "oracle", "--show", "bnm")
    assert f"0 run(s) trained, 8 kept, 0 failed, in {runs}/small\n" in again.err and again.out == first.out
    labels = [line.split("│")[1].strip() for line in first.out.splitlines() if line.startswith("│")]
    assert labels == [
        *("zero-shot", "source-probe", "full", "no-im", "full, chosen by bnm", "no-im, chosen by bnm"),
        *("full, oracle best", "no-im, oracle best", "target probe, oracle"),
    ]
    last = [json.loads((path / "result.json").read_text())["accuracy"]["last"]["accuracy"]
            for path in sorted(runs.glob("small/icons/*/line-color/full,epochs=4/seed*"))]  # fmt: skip
    row = next(line for line in first.out.splitlines() if line.startswith("│ full "))
    assert row.split("│")[2].strip() == mean_and_std(("", seed, value) for seed, value in enumerate(last)).text()


def test_an_interrupted_sweep_resumes_to_the_same_bytes(cli, recipe, icons_cache, tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    assert sweep(cli, recipe, icons_cache, whole).code == 0
    assert not (whole / "small" / "baselines.json").exists()  # minutes at DomainNet's size, and nobody asked
    monkeypatch.setattr(checkpoint, "SAVE_INTERVAL", 0.0)
    real, calls = Trainer._train_epoch, []

    def interrupted(self, epoch):
        calls.append(epoch)
        if len(calls) == 7:  # the second stack's third epoch
            raise KeyboardInterrupt
        return real(self, epoch)

    monkeypatch.setattr(Trainer, "_train_epoch", interrupted)
    parts = tmp_path / "parts"
    stopped = sweep(cli, recipe, icons_cache, parts)
    assert (stopped.code, calls) == (130, [0, 1, 2, 3, 0, 1, 2])
    assert stopped.err.endswith("Interrupted. Finished shards and runs are kept; the same command resumes.\n")
    assert len(list(parts.rglob("result.json"))) == 4 and len(list(parts.rglob(".checkpoints/*"))) == 1
    dry = sweep(cli, recipe, icons_cache, parts, "--dry-run")
    assert "8 runs, 4 finished, 1 stacks and 136 steps to train" in dry.out  # 4 runs, 2 of 4 epochs, 17 steps
    assert calls[7:] == [0]  # one epoch is timed
    resumed = sweep(cli, recipe, icons_cache, parts)
    assert calls[8:] == [2, 3]  # epochs 0 and 1 came from the checkpoint, the first stack was kept
    assert f"4 run(s) trained, 4 kept, 0 failed, in {parts}/small\n" in resumed.err
    assert contents(whole) == contents(parts) and not list(parts.rglob(".checkpoints"))


def test_a_damaged_checkpoint_only_costs_time(cli, recipe, icons_cache, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SAVE_INTERVAL", 0.0)
    real = checkpoint.Checkpoint.save_if_due

    def save_and_stop(self, epoch, *args):
        real(self, epoch, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.Checkpoint, "save_if_due", save_and_stop)
    assert sweep(cli, recipe, icons_cache, tmp_path / "runs").code == 130
    (saved,) = (tmp_path / "runs").rglob(".checkpoints/*.safetensors")
    saved.write_bytes(saved.read_bytes()[:-1000])
    monkeypatch.setattr(checkpoint.Checkpoint, "save_if_due", real)
    assert sweep(cli, recipe, icons_cache, tmp_path / "runs").code == 0
    assert len(list((tmp_path / "runs").rglob("result.json"))) == 8


def test_one_diverging_run_fails_alone(cli, recipe, icons_cache, tmp_path):
    recipe.write_text(
        SMALL_SWEEP.replace('["full", "no-im"]', '["fixed-weight"]') + '[grid]\n"train.lr" = [3e-3, 1e30]\n'
    )
    answer = sweep(cli, recipe, icons_cache, tmp_path / "runs")
    assert answer.code == 1
    assert len(list((tmp_path / "runs").rglob("result.json"))) == 4
    warnings = [line for line in answer.err.splitlines() if line.startswith("Warning: ")]
    assert len(warnings) == 4 and all("fixed-weight,epochs=4,lr=1e+30" in line for line in warnings)
    assert warnings[0].endswith(
        "training diverged in epoch 0: losses or probabilities are not finite; try a lower train.lr"
    )
    assert answer.err.endswith(f"4 run(s) trained, 0 kept, 4 failed, in {tmp_path}/runs/small\n")


def test_changed_options_or_features_train_again(cli, recipe, icons_cache, tmp_path):
    runs = tmp_path / "runs"
    assert sweep(cli, recipe, icons_cache, runs).code == 0
    recipe.write_text(SMALL_SWEEP + "lr = 0.001\n")
    assert f"8 run(s) trained, 0 kept, 0 failed, in {runs}/small\n" in sweep(cli, recipe, icons_cache, runs).err


def test_missing_or_stale_shards_stop_a_sweep_before_it_starts(cli, recipe, icons_cache, tmp_path):
    cache, runs = tmp_path / "cache", tmp_path / "runs"
    shutil.copytree(icons_cache / "icons", cache / "icons")
    (shard,) = cache.glob("icons/*/color/shard-*.h5")
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2] + b"\0" * 64 + whole[len(whole) // 2 + 64 :])
    answer = sweep(cli, recipe, cache, runs)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert answer.err.startswith(f"Error: {shard}") and "Delete it and run extract again" in answer.err
    shard.unlink()
    answer = sweep(cli, recipe, cache, runs)
    assert (answer.code, answer.err) == (
        2,
        f"Error: shards of icons/color are missing in {shard.parent}: expected all 1 that domain.json names, "
        f"got no {shard.name}. "
        f"Run: unimos-pipe extract --dataset icons --encoder tiny --cache {cache} --domain color\n",
    )
    assert not runs.exists()


def outcome(last: float, zero: float = 0.5) -> RunOutcome:
    accuracy = Accuracies(
        last=Scores(accuracy=last),
        zero_shot=Scores(accuracy=zero),
        oracle_best=EpochScores(accuracy=last + 0.1, epoch=1),
    )
    selected = {"im": EpochScores(epoch=0, accuracy=last - 0.1)}
    return RunOutcome(RunMetrics(metric="accuracy", accuracy=accuracy, seconds=10 * last, selected=selected))


def test_tables_average_pairs_and_spread_over_seeds(tmp_path):
    def plan(source, target, seed):
        return PlannedRun(run_spec(source=source, target=target, seed=seed), tmp_path)

    plans = [plan("a", "b", 0), plan("a", "b", 1), plan("b", "a", 0), plan("b", "a", 1)]
    outcomes = [outcome(0.60), outcome(0.62), outcome(0.70), outcome(0.76)]
    known = {
        "a->b": {"source_only": 0.4, "target_probe_oracle": None},
        "b->a": {"source_only": 0.5, "target_probe_oracle": 0.9},
    }
    rows = result_rows(plans, outcomes, known, show=["im", "oracle"])
    pairs = ["a->b", "b->a"]
    assert [(row.label, *(row.format_pair(pair) for pair in pairs), row.format_average(pairs)) for row in rows] == [
        ("zero-shot", "50.0", "50.0", "50.0"),
        ("source-probe", "40.0", "50.0", "45.0"),
        ("full", "61.0 ± 1.4", "73.0 ± 4.2", "67.0 ± 2.8"),
        ("full, chosen by im", "51.0 ± 1.4", "63.0 ± 4.2", "57.0 ± 2.8"),
        ("full, oracle best", "71.0 ± 1.4", "83.0 ± 4.2", "77.0 ± 2.8"),
        ("target probe, oracle", "-", "90.0", "-"),
    ]
    assert [row.seconds for row in rows] == [None, None, pytest.approx(6.7), None, None, None]
    failed = [outcome(0.60), RunOutcome(None, "diverged"), outcome(0.70), outcome(0.76)]
    assert result_rows(plans, failed, {})[1].format_pair("a->b") == "60.0"


def test_baselines_are_what_scikit_learn_says(icons_cache, tmp_path):
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression

    from unimos_pipe.cache.store import FeatureStore
    from unimos_pipe.data.dataset_spec import load_spec
    from unimos_pipe.experiments.run_plans import open_loader

    spec = load_spec("icons")
    folder = next((icons_cache / "icons").glob("tinyclip*"))
    run = run_spec(encoder_id=folder.name, source="color", target="line")
    loader = open_loader([PlannedRun(run, tmp_path)], FeatureStore(spec, folder, extract_call("mini")), "cpu")
    pair = loader.pair("color", "line")
    pairs, file, told = {"color->line": pair}, tmp_path / "baselines.json", []
    assert baselines.measure_baselines(pairs, file, fit=False) == {} and not file.exists()

    class Watching:
        def progress(self, label, total, unit):
            told.append((label, total, unit))
            return contextlib.nullcontext(told.append)

    found = baselines.measure_baselines(pairs, file, reporter=Watching())["color->line"]
    assert told == [("probes", 2, "fits"), 1, 1]
    x, y = pair.task.source.features.numpy(), pair.task.source.labels.numpy()
    assert np.allclose(np.linalg.norm(x, axis=1), 1, atol=1e-6)
    probe = LogisticRegression(C=10.0, max_iter=1000).fit(x, y)
    wanted = (probe.predict(pair.task.target.features.numpy()) == pair.held_out.labels).mean()
    assert found["source_only"] == wanted == pytest.approx(0.83, abs=0.01)
    assert found["target_probe_oracle"] == pytest.approx(0.867, abs=0.02)  # from the target's own labels
    for fit in (True, False):
        assert baselines.measure_baselines(pairs, file, fit=fit, reporter=None) == {"color->line": found}
