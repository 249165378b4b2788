"""How fast stage one is on this machine, against its own encoder, its own decoder and the loop people write."""

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset

from unimos_pipe.cache.index import DomainIndex, write_index
from unimos_pipe.cache.layout import shard_files, shard_path
from unimos_pipe.cache.shard import ImageHeader, read_header, read_image_shard, write_image_shard
from unimos_pipe.cache.store import FeatureStore
from unimos_pipe.data.manifest import DatasetSpec, DomainSpec, Manifest
from unimos_pipe.extract.domain import extract_images
from unimos_pipe.extract.encoder import ClipEncoder, new_model
from unimos_pipe.extract.images import decode, read_batches

PLAIN_BATCH = 64


@dataclass(frozen=True)
class ExtractRates:
    """Images per second of one round, and bytes of shards per second."""

    bare: float
    decode: float
    end_to_end: float
    written: float


def best_batch(encoder: ClipEncoder, sample: torch.Tensor, on_size: Callable[[int, float], None]) -> int:
    """The batch size from which a larger one gains less than 3%, or no longer fits the device.

    Args:
        sample: (n, H, W, 3) uint8 pixels, repeated to the sizes tried: 16, 32, ... to 128 on a CPU, 1,024 on a GPU.
        on_size: called with every size tried and its images per second.
    """
    best, best_rate = 16, 0.0
    largest = 128 if encoder.device.type == "cpu" else 1024
    while (size := best if best_rate == 0 else best * 2) <= largest:
        pixels = sample.repeat(-(-size // len(sample)), 1, 1, 1)[:size]
        try:
            encoder.encode_images(pixels)
            rate = size / min(_seconds(lambda pixels=pixels: encoder.encode_images(pixels)) for _ in range(2))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        on_size(size, rate)
        if rate < 1.03 * best_rate:
            break
        best, best_rate = size, rate
    return best


def measure_extract(
    manifest: Manifest, encoder: ClipEncoder, pixels: torch.Tensor, batch_size: int, workers: int, rounds: int
) -> Iterator[ExtractRates]:
    """Rates of the bare encoder, of decoding alone and of the whole stage, measured in turn, once per round.

    Args:
        pixels: (batch_size, H, W, 3) uint8, what the bare encoder is given again and again.
    """
    rows = len(manifest)
    batches = [list(range(start, min(start + batch_size, rows))) for start in range(0, rows, batch_size)]
    inputs = encoder.scale(pixels.to(encoder.device))
    bare(encoder, inputs)
    for _ in range(rounds):
        bare_seconds = _seconds(lambda: [bare(encoder, inputs[: len(batch)]) for batch in batches])
        on_gpu = encoder.device.type == "cuda"
        stream = read_batches(manifest.root, manifest.paths, batches, encoder.preprocess, workers, on_gpu=on_gpu)
        decode_seconds = _seconds(lambda stream=stream: [None for _ in stream])
        with tempfile.TemporaryDirectory() as folder:
            whole = extract_images(manifest, encoder, Path(folder), batch_size=batch_size, workers=workers)
            size = sum(path.stat().st_size for path in Path(folder).rglob("*.h5"))
        yield ExtractRates(rows / bare_seconds, rows / decode_seconds, rows / whole.seconds, size / whole.seconds)


@torch.inference_mode()
def bare(encoder: ClipEncoder, inputs: torch.Tensor) -> None:
    """The encoder on a batch that is ready on its device, and nothing else; waits until it is done."""
    encoder.forward(inputs)
    if encoder.device.type == "cuda":
        torch.cuda.synchronize(encoder.device)


class _PlainImages(Dataset):
    """One image after the other through open_clip's own transform."""

    def __init__(self, manifest: Manifest, transform: Callable):
        self.manifest, self.transform = manifest, transform

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.transform(decode(self.manifest.root / self.manifest.paths[row]))


@torch.inference_mode()
def plain_loop(
    model: torch.nn.Module, transform: Callable, device: torch.device, manifest: Manifest
) -> tuple[torch.Tensor, float]:
    """The loop people write: open_clip's fp32 model as it comes, a DataLoader of batches of 64 without workers.

    Args:
        model, transform: from :func:`unimos_pipe.extract.encoder.plain_model`, on ``device``.
    Returns:
        (n, D) unit-norm float32 features of the manifest's rows, and images per second.
    """
    model.eval()
    loader = DataLoader(_PlainImages(manifest, transform), PLAIN_BATCH)
    started = time.perf_counter()
    features = torch.cat([model.encode_image(images.to(device)).cpu() for images in loader])
    rate = len(manifest) / (time.perf_counter() - started)
    return F.normalize(features, dim=-1), rate


def extracted(encoder: ClipEncoder, manifest: Manifest, batch_size: int, workers: int) -> tuple[torch.Tensor, float]:
    """(n, D) float32 of the features stage one stores for a manifest, and its images per second."""
    with tempfile.TemporaryDirectory() as folder:
        report = extract_images(manifest, encoder, Path(folder), batch_size=batch_size, workers=workers)
        parts = [read_image_shard(path).image_features for path in shard_files(Path(folder) / manifest.domain)]
    return torch.from_numpy(np.concatenate(parts)).float(), len(manifest) / report.seconds


def smallest_cosine(features: torch.Tensor, reference: torch.Tensor) -> float:
    """The smallest cosine between rows of (n, D) features after each side's mean row is subtracted.

    The features of random weights, and to a degree those of CLIP, share one large direction that hides any error.
    """
    return F.cosine_similarity(features - features.mean(0), reference - reference.mean(0), dim=-1).min().item()


def random_weights(model: str, folder: Path) -> Path:
    """A weights file of a model's random initialisation by seed 0, for machines without the real ones."""
    path = folder / "random.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(new_model(model).state_dict(), path)
    return path


def mixed_rows(manifests: Sequence[Manifest], rows: int) -> Manifest:
    """Evenly spaced rows of several domains below one root as one manifest, at most ``rows`` of them."""
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


def peak_bytes(device: torch.device) -> tuple[int, int]:
    """Peak resident memory of this process, and of the GPU's allocator (0 on a CPU), in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return resident, torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def store_times(folder: Path, rows: int, dim: int, rounds: int) -> list[tuple[float, float]]:
    """(seconds to load and verify, seconds to read the same bytes) of a made-up domain, once per round.

    The domain is written below ``folder`` first: unit-norm float16 features in shards of 4,096 rows, as stage one does.
    """
    store = write_made_up_domain(folder, rows, dim)
    paths = shard_files(store.folder / "made")
    times = []
    for _ in range(rounds):
        plain = _seconds(lambda: [path.read_bytes() for path in paths])
        times.append((_seconds(lambda: store.domain("made")), plain))
    return times


def write_made_up_domain(folder: Path, rows: int, dim: int, shard_size: int = 4096) -> FeatureStore:
    """A store of one domain, ``made``, of random features."""
    spec = DatasetSpec("bench", ("a", "b"), {"made": DomainSpec(("made",), "made")})
    generator = np.random.default_rng(0)
    bounds = [(start, min(start + shard_size, rows)) for start in range(0, rows, shard_size)]
    shards = []
    for index, (start, stop) in enumerate(bounds):
        features = generator.standard_normal((stop - start, dim), np.float32)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        numbers = np.arange(start, stop)
        header = ImageHeader(
            "0" * 64, "made", "GELU", "none", "fp32",
            dataset="bench", domain="made", row_start=start, row_stop=stop,
            skipped=(), read_at=0, origin={}, versions={},
        )  # fmt: skip
        names = [f"{'ab'[row % 2]}/image_{row:06d}.jpg" for row in numbers]
        target = shard_path(folder / "made", index, "00000000")
        blank = np.zeros((len(numbers), 16), np.uint8), np.zeros((len(numbers), 3))
        write_image_shard(target, header, features, names, numbers, *blank)
        shards.append((target.name, read_header(target).features_digest))
    labels = np.arange(rows) % 2
    write_index(folder / "made", DomainIndex("bench", "made", spec.classes, rows, tuple(shards), labels))
    return FeatureStore(spec, folder, "unimos-pipe bench store")


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
