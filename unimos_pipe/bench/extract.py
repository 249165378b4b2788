"""Benchmark of stage one, relative to the encoder alone, decoding alone, and baseline loops."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from unimos_pipe.base.device import pick_device
from unimos_pipe.base.errors import InputError
from unimos_pipe.base.progress import NO_PROGRESS, ProgressReporter
from unimos_pipe.bench.adapt import measure_seconds, peak_memory, synchronize
from unimos_pipe.bench.baseline_loops import BATCH_SIZE, TUNED_WORKERS, simple_loop, tuned_loop, tuned_model
from unimos_pipe.cache.cache_paths import shard_files
from unimos_pipe.cache.feature_set import FeatureSet
from unimos_pipe.cache.shard import read_image_shard
from unimos_pipe.data.build_manifest import build_manifest, find_root
from unimos_pipe.data.manifest import Manifest
from unimos_pipe.extract.batch_size import measure_batch_size, sample_files
from unimos_pipe.extract.encoder import (
    ClipEncoder,
    create_open_clip_model,
    create_random_model,
    load_encoder,
    load_sample,
    native_half_precision,
)
from unimos_pipe.extract.extract_domain import extract_images
from unimos_pipe.extract.extract_features import ExtractOptions, describe_batch_sizes
from unimos_pipe.extract.image_loader import read_batches, resolve_worker_count
from unimos_pipe.extract.weights import find_weights

ENCODER_IMAGES = 128  # images for the benchmark of the encoder alone


@dataclass(frozen=True, kw_only=True)
class ExtractTrial:
    """Options of the benchmark."""

    images: int = 1120  # largest number, over all domains
    rounds: int = 3  # repetitions, alternating
    baseline_images: int = 0  # images for the baseline loops; 0 skips these
    random_weights: bool = False  # use random weights


@dataclass(frozen=True)
class ExtractRates:
    """Images per second of one round, and shard bytes per second."""

    bare: float
    decode: float
    end_to_end: float
    written: float


@dataclass(frozen=True)
class BaselineSpeedup:
    """Images/s of stage one, of the simple loop and of the tuned loop on the same images."""

    images: int
    batch: int  # batch size of the loops
    rates: tuple[tuple[float, float, float], ...]  # one tuple per round
    cosine: float  # smallest between features of stage one and the simple loop, means subtracted
    tuned: str  # description of the tuned loop


@dataclass(frozen=True)
class ExtractBench:
    """Result of :func:`bench_extract`; bytes are peaks."""

    rounds: tuple[ExtractRates, ...]
    on_cpu: bool  # encoder and decoder share the cores
    resident_bytes: int
    gpu_bytes: int
    speedup: BaselineSpeedup | None

    def median(self, name: str) -> float:
        """Return the median over the rounds of bare, decode, end_to_end or written."""
        return median(getattr(rates, name) for rates in self.rounds)

    @property
    def bound(self) -> float:
        """Upper bound in images per second: encoding and decoding in turn on a CPU, else the slower of both."""
        bare, decode = self.median("bare"), self.median("decode")
        return 1 / (1 / bare + 1 / decode) if self.on_cpu else min(bare, decode)

    @property
    def share(self) -> float:
        """Median over the rounds of end_to_end / bare."""
        return median(rates.end_to_end / rates.bare for rates in self.rounds)


def bench_extract(
    features: FeatureSet,
    root: Path | None = None,
    trial: ExtractTrial = ExtractTrial(),
    *,
    options: ExtractOptions = ExtractOptions(),
    device: str = "auto",
    reporter: ProgressReporter = NO_PROGRESS,
) -> ExtractBench:
    """Measure stage one on a data set's images. The cache is not changed.

    Args:
        options: only batch size and workers are used.

    Raises:
        InputError: missing images or weights, or unreadable images.
    """
    spec, torch_device = features.dataset, pick_device(device)
    images = find_root(spec, root, features.cache)
    manifests = [build_manifest(spec, part, images) for name in spec.domains for part in spec.parts(name)]
    rows = sample_rows(manifests, trial.images)
    with tempfile.TemporaryDirectory() as folder:
        chosen = features.encoder
        if trial.random_weights:
            chosen = replace(chosen, pretrained=str(random_weights(chosen.model, Path(folder))))
        encoder, _ = load_encoder(chosen, torch_device, sample_files(manifests))
        fp32 = replace(chosen, precision="fp32")
        reference = create_open_clip_model(fp32, find_weights(fp32), torch_device) if trial.baseline_images else None
    sample = load_sample([rows.root / path for path in rows.paths[:ENCODER_IMAGES]], encoder.preprocess)
    if sample is None:
        raise InputError(f"none of the first images in {rows.root} can be read")
    batch, workers = options.batch_size, resolve_worker_count(options.workers, torch_device)
    if batch == "auto":
        batch, rates = measure_batch_size(encoder, sample)
        reporter.note(describe_batch_sizes(batch, rates))
    reporter.note(
        f"{encoder.identity.model}, {encoder.identity.precision} on {torch_device}, batches of {batch}, "
        f"{workers} worker(s), {len(rows)} images, {trial.rounds} round(s) in turn; medians"
    )
    pixels, results = sample.repeat(-(-batch // len(sample)), 1, 1, 1)[:batch], []
    with reporter.progress("measuring", trial.rounds, "rounds") as advance:
        for result in measure_extract(rows, encoder, pixels, batch, workers, trial.rounds):
            results.append(result)
            advance(1)
    on_gpu = torch_device.type == "cuda"
    memory = peak_memory(torch.device("cpu")), peak_memory(torch_device) if on_gpu else 0
    speedup = None
    if reference:
        speedup = _compare_loops(
            reference, encoder, sample_rows(manifests, trial.baseline_images), (batch, workers), trial.rounds
        )
    return ExtractBench(tuple(results), torch_device.type == "cpu", *memory, speedup)


def _compare_loops(
    reference: tuple, encoder: ClipEncoder, rows: Manifest, sizes: tuple[int, int], rounds: int
) -> BaselineSpeedup:
    """Run stage one and both loops in turn.

    ``reference`` is open_clip's (model, transform), ``sizes`` (batch size, workers) of stage one.
    """
    rates, (model, transform), device = [], reference, encoder.device
    tuned = tuned_model(model)
    for _ in range(rounds):
        expected, simple_rate = simple_loop(model, transform, device, rows)
        _, tuned_rate = tuned_loop(tuned, transform, device, rows)
        features, rate = extract_in_memory(encoder, rows, *sizes)
        rates.append((rate, simple_rate, tuned_rate))
    description = f"channels_last, {native_half_precision(device) or 'no'} autocast, {TUNED_WORKERS} workers"
    return BaselineSpeedup(len(rows), BATCH_SIZE, tuple(rates), smallest_cosine(features, expected), description)


def measure_extract(
    manifest: Manifest, encoder: ClipEncoder, pixels: torch.Tensor, batch_size: int, workers: int, rounds: int
) -> Iterator[ExtractRates]:
    """Yield rates of the encoder alone, decoding alone and stage one, measured in turn in each round.

    Args:
        pixels: (batch_size, H, W, 3) uint8 batch for the encoder alone.
    """
    rows = len(manifest)
    batches = [list(range(start, min(start + batch_size, rows))) for start in range(0, rows, batch_size)]
    inputs = encoder.scale_pixels(pixels.to(encoder.device))
    run_encoder(encoder, inputs)
    for _ in range(rounds):
        bare_seconds = measure_seconds(
            lambda: [run_encoder(encoder, inputs[: len(batch)]) for batch in batches], encoder.device
        )
        on_gpu = encoder.device.type == "cuda"
        stream = read_batches(manifest.root, manifest.paths, batches, encoder.preprocess, workers, on_gpu=on_gpu)
        decode_seconds = measure_seconds(lambda stream=stream: [None for _ in stream], encoder.device)
        with tempfile.TemporaryDirectory() as folder:
            report = extract_images(manifest, encoder, Path(folder), batch_size=batch_size, workers=workers)
            size = sum(path.stat().st_size for path in Path(folder).rglob("*.h5"))
        yield ExtractRates(rows / bare_seconds, rows / decode_seconds, rows / report.seconds, size / report.seconds)


@torch.inference_mode()
def run_encoder(encoder: ClipEncoder, inputs: torch.Tensor) -> None:
    """Run the encoder on a batch that is on its device, and wait for it."""
    encoder.forward(inputs)
    synchronize(encoder.device)


def extract_in_memory(
    encoder: ClipEncoder, manifest: Manifest, batch_size: int, workers: int
) -> tuple[torch.Tensor, float]:
    """Return (n, D) float32 features that stage one stores for a manifest, and its images per second."""
    with tempfile.TemporaryDirectory() as folder:
        report = extract_images(manifest, encoder, Path(folder), batch_size=batch_size, workers=workers)
        parts = [read_image_shard(path).image_features for path in shard_files(Path(folder) / manifest.domain)]
    return torch.from_numpy(np.concatenate(parts)).float(), len(manifest) / report.seconds


def smallest_cosine(features: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the smallest cosine between rows of (n, D) features after subtracting each side's mean row.

    Features of random weights, and to a degree of CLIP, share a large mean that would hide errors.
    """
    return F.cosine_similarity(features - features.mean(0), reference - reference.mean(0), dim=-1).min().item()


def random_weights(model: str, folder: Path) -> Path:
    """Write a weights file of random initialisation (seed 0) and return its path."""
    path = folder / "random.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(create_random_model(model).state_dict(), path)
    return path


def sample_rows(manifests: Sequence[Manifest], rows: int) -> Manifest:
    """Return at most ``rows`` evenly spaced rows of several domains below one root as one manifest."""
    root = Path(os.path.commonpath([manifest.root for manifest in manifests]))
    pool = [
        ((manifest.root / path).relative_to(root).as_posix(), label, size)
        for manifest in manifests
        for path, label, size in zip(manifest.paths, manifest.labels, manifest.sizes, strict=True)
    ]
    step = max(1.0, len(pool) / rows)
    chosen = [pool[int(index * step)] for index in range(min(rows, len(pool)))]
    paths, labels, sizes = zip(*chosen, strict=True)
    return replace(manifests[0], domain="bench", root=root, paths=paths, labels=np.array(labels), sizes=np.array(sizes))
