"""Stacks that train side by side, each in a process of its own: the same results, and one command to the outside."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from conftest import THREADS
from factories.runs import SMALL_SWEEP
from file_tree import tree

import unimos_pipe
from unimos_pipe.training.batching import split_evenly

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or torch.cuda.is_available(), reason="stacks train one after the other"
)


def recipe(tmp_path, epochs=2):
    path = tmp_path / "small.toml"
    path.write_text(SMALL_SWEEP.replace("epochs = 4", f"epochs = {epochs}"))
    return path


def files(runs):
    """What a sweep wrote, but for times."""
    found = {path.relative_to(runs): path.read_bytes() for path in sorted(runs.rglob("*")) if path.is_file()}
    for path, content in found.items():
        if path.name == "result.json":
            result = json.loads(content)
            found[path] = {name: value for name, value in result.items() if name not in ("seconds", "digest")}
    return found


@pytest.mark.parametrize(
    ("runs", "most", "processes", "sizes"),
    [
        (252, 36, 1, [36] * 7),
        (252, 36, 2, [32] * 4 + [31] * 4),  # seven would leave one process idle at the end
        (36, 36, 2, [18, 18]),
        (36, 36, 16, [3] * 12),
        (5, 36, 8, [5]),  # too few to share
        (7, 36, 2, [4, 3]),
        (40, 36, 1, [20, 20]),
        (3, 1, 2, [1, 1, 1]),
    ],
)
def test_stacks_are_even_and_keep_all_processes_busy(runs, most, processes, sizes):
    assert split_evenly(runs, most, processes) == sizes


@pytest.fixture(scope="module")
def beside(cli, icons_cache, tmp_path_factory):
    """A sweep of two stacks that trained side by side: the answer, and the runs, which are not to be changed."""
    folder = tmp_path_factory.mktemp("beside")
    torch.set_num_threads(2)
    try:
        words = ("sweep", recipe(folder), "--stack-size", 4, "--cache", icons_cache)
        return cli(*words, "--runs", folder / "runs"), folder / "runs"
    finally:
        torch.set_num_threads(THREADS)


def thread_counts(runs):
    """The number of threads that each run's config.json names."""
    return [json.loads(path.read_text())["environment"]["threads"] for path in runs.rglob("config.json")]


def test_results_are_those_of_stacks_one_after_the_other(beside, cli, icons_cache, tmp_path, two_threads):
    answer, runs = beside
    assert answer.code == 0 and f"8 run(s) trained, 0 kept, 0 failed, in {runs}/small\n" in answer.err
    assert thread_counts(runs) == [1] * 8
    torch.set_num_threads(1)
    words = ("sweep", recipe(tmp_path), "--stack-size", 4, "--cache", icons_cache, "--runs", tmp_path / "runs")
    after = cli(*words)
    shown = answer.out.replace(str(runs), str(tmp_path / "runs"))
    assert shown.split("s a run")[0] == after.out.split("s a run")[0]
    assert files(runs) == files(tmp_path / "runs")


def test_one_open_stack_trains_as_it_would_have_beside_others(beside, cli, icons_cache, tmp_path, two_threads):
    _, runs = beside
    shutil.copytree(runs, tmp_path / "runs")
    for run in (tmp_path / "runs").rglob("no-im,*/seed*"):
        (run / "heads.safetensors").write_bytes(b"damaged")
    words = ("sweep", recipe(tmp_path), "--stack-size", 4, "--cache", icons_cache, "--runs", tmp_path / "runs")
    again = cli(*words)
    assert "4 run(s) trained, 4 kept, 0 failed" in again.err
    assert files(tmp_path / "runs") == files(runs)


def test_a_lone_stack_has_all_threads_unless_its_steps_are_small(cli, icons_cache, tmp_path, two_threads, monkeypatch):
    words = ("sweep", recipe(tmp_path, epochs=1), "--cache", icons_cache, "--runs", tmp_path / "runs")
    assert cli(*words, "--stack-size", 8).code == 0
    assert thread_counts(tmp_path / "runs") == [1] * 8
    monkeypatch.setattr("unimos_pipe.experiments.run_plans.SMALL_STEP", 0)
    assert cli(*words, "--stack-size", 8, "--force").code == 0
    assert thread_counts(tmp_path / "runs") == [2] * 8


def test_a_small_run_and_its_calibration_have_a_thread_each(cli, icons_cache, tmp_path, two_threads):
    """One after the other in this process, and side by side: the same bytes, and those of the run alone."""
    pair = ("adapt", "--dataset", "icons", "--src", "line", "--tgt", "sketch", "--cache", icons_cache, "--epochs", 2)
    assert cli(*pair, "--out", tmp_path / "beside").code == 0
    assert cli(*pair, "--no-calibrate", "--out", tmp_path / "alone").code == 0
    torch.set_num_threads(1)
    assert cli(*pair, "--out", tmp_path / "after").code == 0
    runs = [tmp_path / name for name in ("beside", "alone", "after")]
    assert [json.loads((run / "config.json").read_text())["environment"]["threads"] for run in runs] == [1, 1, 1]
    results = [json.loads((run / "result.json").read_text()) for run in runs]
    assert results[0]["calibration"]["temperature"] == results[2]["calibration"]["temperature"]
    assert results[0]["accuracy"] == results[1]["accuracy"] == results[2]["accuracy"]
    for name in ("metrics.jsonl", "heads.safetensors", "sample.safetensors"):
        assert len({(run / name).read_bytes() for run in runs}) == 1
    assert (runs[0] / "predictions.csv").read_bytes() == (runs[2] / "predictions.csv").read_bytes()


def test_epochs_are_told_in_this_process(icons_cache, tmp_path, two_threads):
    lines = []
    own = unimos_pipe.Recipe(
        "own", "icons", pairs=("line->color", "color->line"), seeds=3, options={"train": {"epochs": 2}}, calibrate=True
    )
    sweep = unimos_pipe.run_sweep(
        own,
        unimos_pipe.feature_set("icons", cache=icons_cache),
        tmp_path / "runs",
        on_epoch=lambda spec, line: lines.append((spec.source, spec.seed, line["epoch"])),
    )
    wanted = itertools.product(("line", "color"), range(3), (-1, 0, 1))
    assert sorted(lines) == sorted(wanted) and not sweep.failures
    for run in sweep.runs:
        told = [epoch for source, seed, epoch in lines if (source, seed) == (run.spec.source, run.spec.seed)]
        assert told == [-1, 0, 1] and run.result.calibration.temperature > 0


def test_a_disk_that_is_full_in_a_process_is_one_line(cli, icons_cache, tmp_path, two_threads, monkeypatch):
    def full(folder, contents):
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr("unimos_pipe.training.run_recorder.write_run", full)
    answer = cli("sweep", recipe(tmp_path), "--cache", icons_cache, "--runs", tmp_path / "runs")
    assert answer.code == 1 and answer.out == ""
    assert answer.err.startswith(f"Error: {tmp_path}/runs/small/icons/")
    assert answer.err.endswith(": No space left on device. Finished work is kept\n")
    assert not list(tmp_path.rglob(".*.lock"))


def started(tmp_path, icons_cache, epochs):
    """A sweep as a process that two threads are left to, once both of its stacks train."""
    process = subprocess.Popen(
        [sys.executable, "-m", "unimos_pipe", "sweep", str(recipe(tmp_path, epochs)), "--cache", str(icons_cache),
         "--runs", str(tmp_path / "runs")],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    while len(list((tmp_path / "runs").rglob(".seed*.lock"))) < 8:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    return process


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "Interrupted"), (signal.SIGTERM, 143, "Terminated")]
)
def test_a_signal_ends_all_processes_in_one_line(number, code, word, icons_cache, tmp_path):
    process = started(tmp_path, icons_cache, epochs=5000)
    os.killpg(process.pid, number)  # as a terminal does with Ctrl-C
    assert process.communicate(timeout=120)[1] == (
        f"\n{word}. Finished shards and runs are kept; the same command resumes.\n"
    )
    assert process.returncode == code
    assert tree(tmp_path / "runs").keys() <= {"small", "small/recipe.json"}
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_after_a_kill_the_same_command_goes_on(cli, icons_cache, tmp_path, two_threads):
    process = started(tmp_path, icons_cache, epochs=5000)
    process.kill()
    process.communicate()
    for _ in range(200):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    answer = cli("sweep", recipe(tmp_path, epochs=1), "--cache", icons_cache, "--runs", tmp_path / "runs")
    assert answer.code == 0 and "8 run(s) trained" in answer.err
