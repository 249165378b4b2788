"""Benchmark of peak memory by size of the data; each trial runs in its own process."""

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import cycle, islice, permutations
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from unimos_pipe.base.atomic_io import write_text
from unimos_pipe.base.method_config import EncoderSpec, method_spec
from unimos_pipe.base.progress import NO_PROGRESS, ProgressReporter
from unimos_pipe.base.safe_open import read_json
from unimos_pipe.bench.adapt import SIZES, peak_memory, random_task

CPU = torch.device("cpu")


@dataclass(frozen=True)
class MemoryTrial:
    """Result of a trial: description, peak memory of its process, seconds."""

    name: str
    peak_bytes: int
    seconds: float


def bench_memory(
    images: Sequence[int] = (1_000, 20_000),
    size: str = "domainnet",
    runs: int = 1_000,
    *,
    reporter: ProgressReporter = NO_PROGRESS,
) -> list[MemoryTrial]:
    """Measure peak memory of ``extract`` by number of images, of ``adapt`` at a size, of ``report`` for many runs.

    Images are repeated embedded icons, features random rows, runs copies of twelve short ones.

    Args:
        size: a key of :data:`unimos_pipe.bench.adapt.SIZES`.
    """
    trials = []
    with tempfile.TemporaryDirectory() as name, reporter.progress("measuring", len(images) + 3, "trials") as advance:
        folder = Path(name)

        def trial(work: Callable, *values: object) -> None:
            trials.append(run_in_subprocess(work, *values))
            advance(1)

        for count in images:
            trial(trial_extract, folder / f"images-{count}", count)
        trial(trial_adapt, size)
        trial(trial_write_runs, folder / "runs", runs)
        trials.pop()  # only prepares the next trial
        trial(trial_report, folder / "runs")
    return trials


def run_in_subprocess(work: Callable[..., MemoryTrial], *values: object) -> MemoryTrial:
    """Run a trial in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *values).result()


def _finish_trial(name: str, started: float) -> MemoryTrial:
    """Return the result of a trial of this process."""
    return MemoryTrial(name, process_peak_bytes(), time.perf_counter() - started)


def process_peak_bytes() -> int:
    """Return the peak memory of this process: VmHWM on Linux, because getrusage starts from the parent's peak."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    peaks = [int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")]
    return peaks[0] if peaks else peak_memory(CPU)


def trial_extract(folder: Path, count: int) -> MemoryTrial:
    """Encode ``count`` files with the embedded encoder and two decoder processes."""
    from unimos_pipe.data.build_manifest import build_manifest, find_root
    from unimos_pipe.data.dataset_spec import load_spec
    from unimos_pipe.extract.encoder import ClipEncoder
    from unimos_pipe.extract.extract_domain import extract_images

    spec = load_spec("icons")
    icons = build_manifest(spec, "color", find_root(spec, None, folder.with_name("cache")))
    names = tuple(f"{number:07d}.png" for number in range(count))
    (folder / "many").mkdir(parents=True)
    for name, path in zip(names, cycle(icons.paths), strict=False):
        shutil.copyfile(icons.root / path, folder / "many" / name)
    labels, sizes = (np.array(list(islice(cycle(values), count))) for values in (icons.labels, icons.sizes))
    many = replace(icons, root=folder / "many", paths=names, labels=labels, sizes=sizes)
    encoder = ClipEncoder(EncoderSpec("tinyclip-r24-64", "embedded", "fp32"), CPU)
    started = time.perf_counter()
    extract_images(many, encoder, folder / "features")
    return _finish_trial(f"extract, {count:,} images", started)


def trial_adapt(name: str) -> MemoryTrial:
    """Train and evaluate one epoch on random features."""
    from unimos_pipe.methods.unimos.trainer import Trainer
    from unimos_pipe.methods.unimos.training_run import create_run

    size, method = SIZES[name], method_spec("full", {"train.epochs": 1})
    started = time.perf_counter()
    trainer = Trainer([create_run(random_task(size, CPU, torch.float32), method, 0)])
    for _, records in trainer.train():
        for _ in records:
            pass
    return _finish_trial(f"adapt, {size.source_rows:,} + {size.target_rows:,} rows, D = {size.dim}", started)


def trial_write_runs(folder: Path, count: int) -> MemoryTrial:
    """Train at most twelve pairs of icons for one epoch, and copy the runs under other seeds up to ``count``."""
    from unimos_pipe.cache.feature_set import feature_set
    from unimos_pipe.experiments.sweep import run_sweep
    from unimos_pipe.extract.extract_features import extract_features
    from unimos_pipe.runs.recipe import Recipe

    started = time.perf_counter()
    features = extract_features(feature_set("icons", cache=folder.with_name("cache"))).features
    pairs = [f"{source}->{target}" for source, target in permutations(features.dataset.domains, 2)]
    chosen = tuple(pairs[: max(1, count // 2)])
    recipe = Recipe("many", "icons", pairs=chosen, seeds=1, options={"train": {"epochs": 1}})
    sweep = run_sweep(recipe, features, folder)
    for number in range(len(sweep.runs), count):
        _copy_run(sweep.runs[number % len(sweep.runs)].folder, number // len(sweep.runs))
    return _finish_trial(f"{count:,} runs written", started)


def _copy_run(run: Path, seed: int) -> None:
    """Copy a run under another seed."""
    from unimos_pipe.runs.write_run import CONFIG, RESULT, compute_digest, compute_result_digest, encode_json

    copy = run.with_name(f"seed{seed}")
    shutil.copytree(run, copy)
    config, result = (read_json(run / name) for name in (CONFIG, RESULT))
    config["spec"]["seed"] = seed
    write_text(copy / CONFIG, encode_json(config).decode())
    result["files"][CONFIG] = compute_digest(encode_json(config))
    write_text(copy / RESULT, encode_json({**result, "digest": compute_result_digest(result)}).decode())


def trial_report(folder: Path) -> MemoryTrial:
    """Write the report of all runs below a folder."""
    from unimos_pipe.report.make_report import make_report

    started = time.perf_counter()
    report = make_report(folder, folder.with_name("report"), cache=folder.with_name("cache"))
    return _finish_trial(f"report, {report.runs:,} runs", started)
