"""Shards as jobs on Ray: the results of the local engine, also when a machine of the cluster is lost."""

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
from unimos_pipe.base.ray_cluster import TOKEN_HINT, RayOptions, run_ray_jobs
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


JOBS = """
import ray
from unimos_pipe.base.errors import InputError
from unimos_pipe.base.ray_cluster import RayOptions, run_ray_jobs
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.data.prompts import clean_class_name

ray.init(address="local", num_cpus=1, object_store_memory=80_000_000, include_dashboard=False, log_to_driver=False)
with run_ray_jobs(RayOptions()) as run:
    print(sorted(run(clean_class_name, ["Alarm_Clock", "cup"])))
    try:
        list(run(load_spec, ["icons", "nothing"]))
    except InputError as error:
        print(str(error).partition(":")[0])
try:
    with run_ray_jobs(RayOptions(cpus=64)):
        pass
except InputError as error:
    print(error)
"""


def test_jobs_give_their_results_and_their_errors():
    """In a process of its own, tried again if Ray aborts it.

    Ray 2 now and then aborts a process that cancels jobs: "Tried to complete task that was not pending".
    """
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", JOBS], capture_output=True, text=True, timeout=120)
        if done.returncode != -signal.SIGABRT:
            break
    assert (done.returncode, done.stdout) == (
        0,
        "[('Alarm_Clock', 'Alarm Clock'), ('cup', 'cup')]\n"
        "unknown data set 'nothing'; known\n"
        "the Ray cluster is too small for one job: expected 64 CPU(s), 0 GPU(s), got 1 CPU(s), 0 GPU(s)\n",
    ), done.stderr


def test_no_cluster_at_the_address_is_one_line():
    with pytest.raises(InputError) as caught, run_ray_jobs(RayOptions(address="127.0.0.1:1")):
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
[options.train]
epochs = {epochs}
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
def test_a_sweep_survives_the_loss_of_a_machine(two_machines, cli, icons_cache, tmp_path):
    """Three stacks on two machines, one killed when the first stack trains: results are the local engine's."""
    second = two_machines.add_node(num_cpus=1, object_store_memory=80_000_000)
    two_machines.wait_for_nodes()
    recipe = tmp_path / "small.toml"
    recipe.write_text(RECIPE.format(epochs=6))
    args = ["sweep", str(recipe), "--stack-size", "2", "--cache", str(icons_cache), "--device", "cpu", "--runs"]
    command = [sys.executable, "-m", "unimos_pipe", *args, str(tmp_path / "ray"), "--engine", "ray"]
    process = subprocess.Popen(
        [*command, "--address", two_machines.address], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while not list((tmp_path / "ray").rglob("metrics.jsonl")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    assert not list((tmp_path / "ray").rglob("result.json"))
    two_machines.remove_node(second, allow_graceful=False)
    assert process.wait(600) == 0, process.stderr.read()
    local = [*args, str(tmp_path / "local")]
    code = f"import torch; torch.set_num_threads(1); from unimos_pipe.cli.main import main; main({local!r})"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert len(outcome(tmp_path / "ray")) == 6
    assert outcome(tmp_path / "ray") == outcome(tmp_path / "local")


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
