"""Verification of cached features against their images: a sample is encoded again and compared."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from unimos_pipe.base.device import pick_device
from unimos_pipe.base.encoder_presets import find_encoder
from unimos_pipe.base.errors import StaleCacheError
from unimos_pipe.base.method_config import EncoderSpec
from unimos_pipe.base.progress import NO_PROGRESS, ProgressReporter
from unimos_pipe.cache.cache_paths import default_cache, shard_files
from unimos_pipe.cache.encoder_identity import IMPORTED, encoder_id, recorded_views
from unimos_pipe.cache.maintenance import (
    CacheEntry,
    find_changed_image,
    is_inside,
    list_entries,
    read_sound_shards,
    verify_features,
)
from unimos_pipe.cache.shard import ImageShard, read_header
from unimos_pipe.data.build_manifest import build_manifest, find_root
from unimos_pipe.data.dataset_spec import DatasetSpec, load_spec
from unimos_pipe.extract.encoder import ClipEncoder, load_sample
from unimos_pipe.extract.plugin_encoder import open_encoder

MIN_COSINE = 0.999  # between stored float16 features and the same images encoded again


@dataclass(frozen=True)
class EncodingCheck:
    """The number of images encoded again, and the problems, one line each."""

    images: int
    problems: tuple[str, ...]


def verify_encoding(
    dataset: str | DatasetSpec,
    root: str | Path | None = None,
    *,
    encoder: EncoderSpec | None = None,
    cache: Path | None = None,
    images: int = 64,
    device: str = "auto",
    reporter: ProgressReporter = NO_PROGRESS,
) -> EncodingCheck:
    """Compare the images with the cached features, and encode a sample of them again.

    Damaged shards are skipped; :func:`unimos_pipe.verify_cache` reports them.

    Args:
        dataset: name of a known data set, path of a spec file, or a spec.
        root: folder of the domains' folders; not needed for embedded images.
        encoder: None takes the data set's. Features of other encoders are skipped with a note.
        cache: None takes ``$UNIMOS_CACHE``, otherwise the user's cache folder.
        images: sample size per domain.
    Raises:
        InputError: unknown data set, or missing images.
    """
    spec = load_spec(dataset) if isinstance(dataset, str) else dataset
    cache = cache or default_cache()
    checker = _Checker(
        spec, encoder or find_encoder(spec.encoder), find_root(spec, Path(root) if root else None, cache)
    )
    problems: list[str] = []
    count = 0
    for entry in list_entries(cache):
        if entry.dataset != spec.cache_name or entry.domain == "text":
            continue
        if reason := checker.reason_to_skip(entry, device):
            reporter.note(f"{entry.folder}: {reason}, not encoded again")
            continue
        entry_problems, checked = checker.check(entry, images)
        problems += [f"{entry.folder}: {problem}" for problem in entry_problems]
        count += checked
    return EncodingCheck(count, tuple(problems))


class _Checker:
    """Encoders by their settings, and the images of one data set."""

    def __init__(self, spec: DatasetSpec, encoder: EncoderSpec, root: Path | None):
        self.spec, self.encoder, self.root = spec, encoder, root
        self.encoders: dict[tuple[str, tuple[str, ...]], ClipEncoder] = {}  # by precision and views

    def reason_to_skip(self, entry: CacheEntry, device: str) -> str | None:
        """Return why an entry's features cannot be encoded again, or None; loads the encoder."""
        settings = _read_settings(entry)
        if settings is None:
            return "without a sound shard"
        if settings[0] == IMPORTED:
            return "imported"
        spec = replace(self.encoder, precision=settings[0], views=settings[1])
        if settings not in self.encoders:
            self.encoders[settings] = open_encoder(spec, pick_device(device))
        if encoder_id(spec, self.encoders[settings].identity) != entry.encoder_id:
            return "encoded with other weights or settings"
        return None

    def check(self, entry: CacheEntry, images: int) -> tuple[list[str], int]:
        """Return the problems of an entry and the number of images that were encoded."""
        try:
            shards = read_sound_shards(entry)
        except StaleCacheError:
            return [], 0
        manifest = build_manifest(self.spec, entry.domain, self.root, skip_missing=self.spec.is_own)
        if shards and (change := find_changed_image(shards, manifest)):
            return [f"the images in {manifest.root} are not those that were encoded: {change}"], 0
        rows = list(_sample_rows(shards, images))
        names = [shards[index].paths[row] for index, row in rows]
        if not names or not all(is_inside(name) for name in names):
            return [], 0
        encoder = self.encoders[_read_settings(entry)]
        pixels = load_sample([manifest.root / name for name in names], encoder.preprocess)
        if pixels is None or len(pixels) < len(names):
            return ["images of the sample can no longer be read"], 0
        features = encoder.encode_images(pixels).numpy()
        return list(verify_features(shards, features, rows, MIN_COSINE)), len(names)


def _read_settings(entry: CacheEntry) -> tuple[str, tuple[str, ...]] | None:
    """Return precision and views of an entry's features; None without a shard that can be read."""
    for path in shard_files(entry.folder):
        with contextlib.suppress(StaleCacheError):
            identity = read_header(path).encoder()
            return identity.precision, recorded_views(identity)
    return None


def _sample_rows(shards: list[ImageShard], count: int) -> Iterator[tuple[int, int]]:
    """Yield (shard, row) of at most ``count`` rows, evenly spaced."""
    rows = [(index, row) for index, shard in enumerate(shards) for row in range(len(shard.paths))]
    yield from rows[:: max(1, len(rows) // count)][:count]
