"""Benchmark of loading and verifying a domain, relative to reading the same bytes."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from unimos_pipe.base.errors import Call
from unimos_pipe.cache.cache_paths import shard_files, shard_path
from unimos_pipe.cache.domain_index import DomainIndex, write_index
from unimos_pipe.cache.shard import ImageHeader, read_header, write_image_shard
from unimos_pipe.cache.store import FeatureStore
from unimos_pipe.data.dataset_spec import DatasetSpec, DomainSpec


@dataclass(frozen=True)
class StoreTimes:
    """Seconds per round to load and verify a domain, and to read the same bytes."""

    load: tuple[float, ...]
    raw_read: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Median over the rounds of load time / read time."""
        return median(load / raw_read for load, raw_read in zip(self.load, self.raw_read, strict=True))


def bench_store(rows: int = 120_000, dim: int = 512, rounds: int = 7) -> StoreTimes:
    """Measure a domain of random unit-norm float16 features in shards of 4,096 rows."""
    with tempfile.TemporaryDirectory() as folder:
        store = write_random_domain(Path(folder), rows, dim)
        paths = shard_files(store.folder / "random")
        raw_read, load_seconds = [], []
        for _ in range(rounds):
            raw_read.append(_seconds(lambda: [path.read_bytes() for path in paths]))
            load_seconds.append(_seconds(lambda: store.domain("random")))
    return StoreTimes(tuple(load_seconds), tuple(raw_read))


def write_random_domain(folder: Path, rows: int, dim: int, shard_size: int = 4096) -> FeatureStore:
    """Write a store with one domain, ``random``, of random features."""
    spec = DatasetSpec("bench", ("a", "b"), {"random": DomainSpec(("random",), "random")})
    generator = np.random.default_rng(0)
    bounds = [(start, min(start + shard_size, rows)) for start in range(0, rows, shard_size)]
    shards = []
    for index, (start, stop) in enumerate(bounds):
        features = generator.standard_normal((stop - start, dim), np.float32)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        numbers = np.arange(start, stop)
        header = ImageHeader(
            "0" * 64, "random", "GELU", "none", "fp32",
            dataset="bench", domain="random", row_start=start, row_stop=stop,
            skipped=(), read_at=0, origin={}, versions={},
        )  # fmt: skip
        names = [f"{'ab'[row % 2]}/image_{row:06d}.jpg" for row in numbers]
        target = shard_path(folder / "random", index, "00000000")
        blank_stamps = np.zeros((len(numbers), 16), np.uint8), np.zeros((len(numbers), 3))
        write_image_shard(target, header, features, names, numbers, *blank_stamps)
        shards.append((target.name, read_header(target).features_digest))
    labels = np.arange(rows) % 2
    write_index(folder / "random", DomainIndex("bench", "random", spec.classes, rows, tuple(shards), labels))
    return FeatureStore(spec, folder, Call("bench_store"))


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
