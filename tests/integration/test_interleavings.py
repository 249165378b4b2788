"""Long trials of what may interrupt or grow: kills at random moments, many images. CI runs one short round."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from factories.tasks import TINY

from unimos_pipe.cache.cache_paths import shard_files
from unimos_pipe.cache.encoder_identity import encoder_id
from unimos_pipe.cache.shard import read_image_shard
from unimos_pipe.data.build_manifest import build_manifest
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.extract.encoder import ClipEncoder
from unimos_pipe.extract.extract_domain import extract_images

SHARDS = 24  # of one image each


def stored(folder: Path) -> np.ndarray:
    return np.concatenate([read_image_shard(path).image_features for path in shard_files(folder)])


def kill_at_random(command: list[str], cache: Path, rng: random.Random) -> int:
    """Start extract, kill it with SIGKILL somewhere between its start and its end; how many shards were there."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wanted = rng.randrange(SHARDS)
    while process.poll() is None and len(list(cache.glob("mini/*/light/shard-*.h5"))) < wanted:
        time.sleep(rng.random() / 100)
    process.kill()
    process.wait()
    return len(list(cache.glob("mini/*/light/shard-*.h5")))


def soak(rounds: int, cli, miniature, tmp_path: Path, seed: int) -> list[int]:
    """Rounds of killing, finishing and pruning; every round must end as if nothing had happened."""
    spec, rng = load_spec(str(miniature.spec)), random.Random(seed)
    encoder = ClipEncoder(TINY, torch.device("cpu"))
    manifest = build_manifest(spec, "light", miniature.root)
    options = {"workers": 1, "shard_size": 1, "batch_size": 1}
    extract_images(manifest, encoder, tmp_path / "clean", **options)
    undisturbed = stored(tmp_path / "clean" / "light")
    killed_at = []
    for number in range(rounds):
        cache = tmp_path / f"round{number}"
        command = [sys.executable, "-m", "unimos_pipe", "extract", "--domain", "light", "--shard-size", "1"]
        command += ["--workers", "1", "--batch-size", "1", "--data-root", str(miniature.root)]
        killed_at.append(kill_at_random([*command, *(str(arg) for arg in miniature.args(cache))], cache, rng))
        folder = cache / "mini" / encoder_id(TINY, encoder.identity)
        report = extract_images(manifest, encoder, folder, **options)
        assert (report.shards_reused, report.shards_written) == (killed_at[-1], SHARDS - killed_at[-1])
        assert np.array_equal(stored(folder / "light"), undisturbed)
        prune = ("cache", "prune", "--cache", cache, "--runs", tmp_path / "runs", "--yes")
        runs = tmp_path / "runs" / "r"
        runs.mkdir(parents=True, exist_ok=True)
        (runs / "config.json").write_text(json.dumps({"spec": {"dataset": "mini", "encoder_id": folder.name}}))
        assert cli(*prune).code == 0
        left = [path for path in cache.rglob("*") if path.is_file()]
        assert {path.suffix for path in left} == {".h5", ".json"}
        assert len(list((folder / "light").iterdir())) == SHARDS + 1
        assert cli("cache", "verify", "--cache", cache).code == 0
    return killed_at


def test_one_killed_extraction_ends_as_an_undisturbed_one(cli, miniature, tmp_path):
    assert len(soak(1, cli, miniature, tmp_path, seed=3)) == 1


@pytest.mark.slow
def test_twenty_five_killed_extractions_end_as_undisturbed_ones(cli, miniature, tmp_path):
    killed_at = soak(25, cli, miniature, tmp_path, seed=0)
    print(f"killed with so many of {SHARDS} shards written: {killed_at}")
    assert len(killed_at) == 25 and len({count for count in killed_at if count < SHARDS}) > 8


_PEAK = """
import resource, sys
from dataclasses import replace
from pathlib import Path
import numpy as np, torch
from unimos_pipe.base.method_config import EncoderSpec
from unimos_pipe.extract.encoder import ClipEncoder
from unimos_pipe.extract.extract_domain import extract_images
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.data.build_manifest import find_root, build_manifest
cache, rows = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
spec = load_spec("icons")
one = build_manifest(spec, "color", find_root(spec, None, cache))
links = cache / "many" / "color"
links.mkdir(parents=True, exist_ok=True)
names = []
for number in range(rows):
    name = f"{number:05d}.png"
    (links / name).symlink_to(one.root / one.paths[number % len(one)])
    names.append(name)
many = replace(one, root=links, paths=tuple(names), labels=np.zeros(rows, np.int64), sizes=np.zeros(rows, np.int64))
encoder = ClipEncoder(EncoderSpec("tinyclip-r24-64", "embedded", "fp32"), torch.device("cpu"))
extract_images(many, encoder, cache / "features", workers=0, shard_size=512)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("counts", [(64, 576), pytest.param((1_000, 10_000), marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_number_of_images(counts, tmp_path):
    """Peak resident memory for many images within 5% of that for few."""
    commands = [[sys.executable, "-c", _PEAK, tmp_path / str(rows), str(rows)] for rows in counts]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    peaks = [int(process.communicate()[0]) for process in processes]
    print(f"peak memory in kB for {counts} images: {peaks}")
    assert peaks[1] <= 1.05 * peaks[0]
