"""Shards as jobs on Ray: the results of the local engine, also when a machine of the cluster is lost."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from unimos_pipe.base.errors import InputError
from unimos_pipe.base.ray_cluster import TOKEN_HINT, RayOptions, _measure_cluster, connect_ray
from unimos_pipe.cache.cache_paths import shard_files
from unimos_pipe.cache.shard import read_image_shard

ray = pytest.importorskip("ray", reason="Ray has no wheel for this Python or machine")
PIPELINES = Path(__file__).parents[2] / "pipelines"
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def two_machines():
    """Ray as two machines of one core each: two raylets on loopback."""
    from ray.cluster_utils import Cluster

    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
    head = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False, "_system_config": quick}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield cluster
    cluster.shutdown()


def features(cache: Path, domain: str) -> np.ndarray:
    folder = next(cache.glob(f"icons/*/{domain}"))
    return np.concatenate([read_image_shard(path).image_features for path in shard_files(folder)])


PLUGIN = """
from unimos_pipe.runs.validator_names import register_validator

def half(evaluation):
    return 0.5

register_validator("half", half)
"""
JOBS = """
import ray
from unimos_pipe.base.errors import InputError
from unimos_pipe.base.plugins import load_plugin, outside_names
from unimos_pipe.base.ray_cluster import RayOptions, connect_ray
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.data.prompts import clean_class_name

def work(job, factor, count):
    for _ in range(job):
        count(factor)
    return job * factor

load_plugin("half_score.py")
ray.init(address="local", num_cpus=1, object_store_memory=80_000_000, include_dashboard=False, log_to_driver=False)
counts = []
with connect_ray(RayOptions()) as cluster:
    print(sorted(cluster.run(clean_class_name, ["Alarm_Clock", "cup"])))
    print(sorted(cluster.run(work, [2, 3], 10, on_count=counts.append)), sum(counts))
    print(list(cluster.run(outside_names, ["validators"])))
    try:
        list(cluster.run(load_spec, ["icons", "nothing"]))
    except InputError as error:
        print(str(error).partition(":")[0])
try:
    with connect_ray(RayOptions(cpus=64)):
        pass
except InputError as error:
    print(error)
"""


def test_jobs_give_their_results_and_their_errors(tmp_path):
    """In a process of its own, tried again if Ray aborts it.

    Ray 2 now and then aborts a process that cancels jobs: "Tried to complete task that was not pending".
    """
    (tmp_path / "half_score.py").write_text(PLUGIN)
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", JOBS], capture_output=True, text=True, timeout=120, cwd=tmp_path)
        if done.returncode != -signal.SIGABRT:
            break
    assert (done.returncode, done.stdout) == (
        0,
        "[('Alarm_Clock', 'Alarm Clock'), ('cup', 'cup')]\n"
        "[(2, 20), (3, 30)] 50\n"
        "[('validators', ['half'])]\n"
        "unknown data set 'nothing'; known\n"
        "no machine of the Ray cluster is large enough for one job: expected 64 CPU(s), 0 GPU(s), got at most 1 "
        "CPU(s), 0 GPU(s)\n",
    ), done.stderr


@pytest.mark.parametrize(
    ("cpus", "gpus", "machines", "jobs", "jobs_per_machine"),
    [
        (1.0, None, [{"CPU": 8}, {"CPU": 3, "GPU": 1}], 11, 8),
        (2.0, None, [{"CPU": 8}, {"CPU": 3}, {"CPU": 1}], 5, 4),
        (1.0, 1.0, [{"CPU": 8, "GPU": 2}, {"CPU": 8}], 2, 2),
        (1.0, 0.25, [{"CPU": 8, "GPU": 2}, {"CPU": 3, "GPU": 1}], 11, 8),
        (0.5, None, [{"CPU": 2}], 4, 4),
    ],
)
def test_how_many_jobs_run_at_once(cpus, gpus, machines, jobs, jobs_per_machine):
    cluster = _measure_cluster(RayOptions(cpus=cpus, gpus=gpus), machines)
    assert (cluster.concurrent_jobs, cluster.jobs_per_machine) == (jobs, jobs_per_machine)


def test_two_small_machines_are_not_one_large_machine():
    """Ray would wait for ever."""
    with pytest.raises(InputError, match=r"no machine .* expected 2 CPU.s., 0 GPU.s., got at most 1 CPU.s., 0 GPU.s."):
        _measure_cluster(RayOptions(cpus=2.0), [{"CPU": 1}, {"CPU": 1}])


def test_gpus_are_whole_or_a_fraction_of_one():
    with pytest.raises(InputError) as caught:
        RayOptions(gpus=1.5)
    assert str(caught.value) == "GPUs per job: expected a whole number, or a fraction below 1, got 1.5"
    assert (
        RayOptions(gpus=0.25).for_device("cuda").gpus == 0.25 and RayOptions(gpus=0.25).for_device("cpu").gpus is None
    )
    assert RayOptions().for_device("cuda").gpus == 1


def test_no_cluster_at_the_address_is_one_line():
    with pytest.raises(InputError) as caught, connect_ray(RayOptions(address="127.0.0.1:1")):
        pass
    assert str(caught.value).startswith("no Ray cluster at 127.0.0.1:1: ")
    assert str(caught.value).endswith("Start one with ray start (README, on Ray)")


@pytest.mark.parametrize(("shards", "killed_at"), [(4, 1), pytest.param(12, 3, marks=pytest.mark.slow)])
def test_a_lost_machine_costs_its_shards_in_hand_and_nothing_else(
    shards, killed_at, two_machines, icons_cache, tmp_path
):
    """Shards on two machines, one of them killed when some are there: all are made, equal to the local engine's."""
    second = two_machines.add_node(num_cpus=1, object_store_memory=80_000_000)
    two_machines.wait_for_nodes()
    args = ["extract", "--dataset", "icons", "--domain", "line", "--shard-size", str(624 // shards), "--workers", "0"]
    command = [sys.executable, "-m", "unimos_pipe", *args, "--cache", str(tmp_path / "ray"), "--engine", "ray"]
    process = subprocess.Popen([*command, "--address", two_machines.address], stderr=subprocess.PIPE, text=True)
    while len(found := list((tmp_path / "ray").glob("icons/*/line/shard-*.h5"))) < killed_at:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    assert len(found) < shards
    stamps = {path: path.stat().st_mtime_ns for path in found}
    two_machines.remove_node(second, allow_graceful=False)
    assert process.wait(600) == 0, process.stderr.read()
    again = [path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp]
    assert len(again) <= 1  # the lost machine's one core had written at most one that it had not yet told of
    assert len(shard_files(next((tmp_path / "ray").glob("icons/*/line")))) == shards
    assert np.array_equal(features(tmp_path / "ray", "line"), features(icons_cache, "line"))


RECIPE = """
name = "small"
dataset = "icons"
pairs = ["line->sketch", "color->solid", "sketch->color"]
seeds = 2
methods = ["unimos", "fused", "auto"]
calibrate = true
[options.train]
epochs = 6
"""
SWEEP = """
import contextlib, sys
import unimos_pipe
from unimos_pipe.base.progress import NO_PROGRESS

class Reporter:
    note = warn = detail = NO_PROGRESS.note
    @contextlib.contextmanager
    def progress(self, label, total, unit):
        print(label, total, unit, file=log)
        yield lambda count: print(count, file=log)

recipe, cache, runs, address, log = sys.argv[1:]
log = open(log, "w", buffering=1)
compute = unimos_pipe.ComputeConfig("cpu", unimos_pipe.RayOptions(address=address))
features = unimos_pipe.feature_set("icons", cache=cache)
unimos_pipe.run_sweep(recipe, features, runs, compute=compute, reporter=Reporter())
"""


def outcome(runs: Path) -> dict[str, tuple]:
    """What every run below a folder measured and answered."""
    return {
        path.parent.relative_to(runs).as_posix(): (
            (path.parent / "metrics.jsonl").read_text(),
            (path.parent / "predictions.csv").read_text(),
        )
        for path in runs.rglob("result.json")
    }


@pytest.mark.slow
def test_a_sweep_survives_the_loss_of_a_machine(two_machines, icons_cache, tmp_path):
    """One stack's runs are two jobs on two machines, one of them lost after some epochs: results are the local ones."""
    second = two_machines.add_node(num_cpus=1, object_store_memory=80_000_000)
    two_machines.wait_for_nodes()
    recipe = tmp_path / "small.toml"
    recipe.write_text(RECIPE)
    log, total = tmp_path / "log", 6 * (6 + 3)  # 6 runs of 6 epochs, and 3 calibration runs
    words = [str(recipe), str(icons_cache), str(tmp_path / "ray"), two_machines.address, str(log)]
    process = subprocess.Popen(
        [sys.executable, "-c", SWEEP, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while not log.exists() or sum(map(int, log.read_text().split()[4:])) < 6 * 3 + 6:  # calibration, and some epochs
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    assert not list((tmp_path / "ray").rglob("result.json"))
    two_machines.remove_node(second, allow_graceful=False)
    assert process.wait(600) == 0, process.stderr.read()
    epochs, _, fits = log.read_text().partition("other methods 6 fits\n")
    title, *counts = epochs.splitlines()
    assert (title, sum(map(int, counts))) == (f"12 runs {total} epochs", total) and len(counts) > 3
    assert sum(map(int, fits.split())) == 6
    args = ["sweep", str(recipe), "--cache", str(icons_cache), "--device", "cpu", "--runs", str(tmp_path / "local")]
    code = f"import torch; torch.set_num_threads(1); from unimos_pipe.cli.main import main; main({args!r})"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert len(outcome(tmp_path / "ray")) == 12
    assert outcome(tmp_path / "ray") == outcome(tmp_path / "local")
    results = [json.loads(path.read_text()) for path in (tmp_path / "ray").rglob("result.json")]
    assert [result["stack"]["runs"] for result in results if result.get("stack")] == [3] * 6


def by_hand() -> list[str]:
    """The lines by which pipelines/README.md makes a cluster of several machines, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", (PIPELINES / "README.md").read_text(), re.DOTALL)
    (block,) = [block for block in blocks if "ray start" in block]
    return [line.partition(" #")[0].strip() for line in block.splitlines()]


@pytest.mark.slow
def test_two_machines_by_hand(tmp_path):
    """The README's lines as they are, but for addresses and sizes: two raylets that want a token, and ours on both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        head = f"127.0.0.1:{free.getsockname()[1]}"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)}
    small, raylets = " --num-cpus 1 --object-store-memory 80000000 --disable-usage-stats --block", []
    count = f"import ray; ray.init('{head}', logging_level='ERROR'); print(sum(n['Alive'] for n in ray.nodes()))"
    try:
        for line in by_hand():
            line = line.replace("FIRST:6379", head).replace("6379", head.partition(":")[2]).replace("auto", head)
            if line.startswith("export "):
                environment |= [line.removeprefix("export ").split("=")]
            elif line.startswith("ray start"):
                raylets.append(subprocess.Popen([*shlex.split(line + small)], env=environment, cwd=tmp_path))
                command, wanted = [sys.executable, "-c", count], str(len(raylets))
                for _ in range(30):
                    found = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
                    if found.stdout.strip() == wanted:
                        break
                    time.sleep(1)
                assert found.stdout.strip() == wanted, found.stderr
            elif line.startswith("unimos-pipe"):
                words = [*shlex.split(line.replace("--all", "--domain line"))[1:], "--cache", str(tmp_path / "cache")]
                command = [sys.executable, "-m", "unimos_pipe", *words, "--shard-size", "160", "--workers", "0"]
                subprocess.run(command, env=environment, cwd=tmp_path, check=True)
                bare = {name: value for name, value in environment.items() if name != "RAY_AUTH_MODE"}
                refused = subprocess.run([*command, "--force"], env=bare, cwd=tmp_path, capture_output=True, text=True)
                assert refused.returncode == 2 and refused.stderr.endswith(f"{TOKEN_HINT}\n"), refused.stderr
            elif line != "ray stop":  # that would end every cluster on this machine
                subprocess.run(line, shell=True, env=environment, cwd=tmp_path, check=True)
    finally:
        for process in reversed(raylets):
            process.terminate()
            process.wait(60)
    assert len(list((tmp_path / "cache").glob("icons/*/line/shard-*.h5"))) == 4
