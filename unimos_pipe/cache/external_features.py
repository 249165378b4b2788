"""Features made elsewhere as a domain of the cache: whole or absent, in a folder that no encoder of ours writes to."""

import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import xxhash

from unimos_pipe.base.atomic_io import remove_leftovers
from unimos_pipe.base.errors import InputError, StaleCacheError
from unimos_pipe.base.locks import exclusive_lock
from unimos_pipe.cache.cache_paths import domain_lock, shard_path, text_path, wait_for_prune
from unimos_pipe.cache.domain_index import DomainIndex, read_index, remove_superseded, write_index
from unimos_pipe.cache.encoder_identity import imported_identity
from unimos_pipe.cache.file_digests import DIGEST
from unimos_pipe.cache.shard import (
    ImageHeader,
    ImageShard,
    TextHeader,
    read_image_shard,
    write_image_shard,
    write_text_shard,
)
from unimos_pipe.data.dataset_spec import DatasetSpec

SHARD_ROWS = 4096


@dataclass(frozen=True)
class ImportedDomain:
    """Rows of one domain or split: (n, D) float16 unit features, n names, (n,) labels, and where they come from."""

    spec: DatasetSpec
    part: str
    encoder: str  # what the user calls it
    features: np.ndarray
    paths: tuple[str, ...]
    labels: np.ndarray
    origin: dict  # stands in every shard's header


def write_imported(encoder_folder: Path, rows: ImportedDomain, versions: dict, *, force: bool) -> bool:
    """Make rows a domain of the cache, in place of what was there; returns whether any shard had to be written.

    Rows that are there already keep their shards, and only their labels are renewed.

    Raises:
        InputError: other features of this domain and encoder are there and ``force`` is not given, another D than that
            of the other domains, or another process writes there.
        ExecutionError: a full disk.
    """
    folder = encoder_folder / rows.part
    with exclusive_lock(folder, lock=domain_lock(folder)) as alone:
        wait_for_prune(encoder_folder)
        check_same_dim(encoder_folder, rows)
        before = _stored(folder)
        same = before is not None and _is_same(before[1], rows)
        if before is not None and not same and not force:
            raise InputError(
                f"{rows.spec.name}/{rows.part} by {rows.encoder!r} is in {folder} with other rows; "
                "add --force to replace it"
            )
        if same:
            paths, digests = zip(*before[0].shards, strict=True)
        else:
            paths, digests = _write_shards(folder, rows, versions)
        index = DomainIndex(
            rows.spec.name,
            rows.part,
            rows.spec.classes,
            len(rows.features),
            tuple(zip(paths, digests, strict=True)),
            rows.labels,
        )
        write_index(folder, index)
        if alone:
            remove_leftovers(folder)
            remove_superseded(folder, [folder / name for name in paths])
    return not same


def check_same_dim(encoder_folder: Path, rows: ImportedDomain) -> None:
    """Raise InputError where another domain of the encoder has features of another D."""
    others = [path for path in encoder_folder.glob("*") if path.is_dir() and path.name not in ("text", rows.part)]
    for other in sorted(others):
        found = _stored(other)
        if found and (dim := found[1][0].image_features.shape[1]) != rows.features.shape[1]:
            raise InputError(
                f"{rows.spec.name}/{rows.part} by {rows.encoder!r}",
                expected=f"D = {dim}, as {other.name} has by this encoder",
                got=f"D = {rows.features.shape[1]}",
                todo="Features of another encoder need another --encoder-name",
            )


def _stored(folder: Path) -> tuple[DomainIndex, list[ImageShard]] | None:
    """A domain as it is, or None where it is absent or damaged."""
    try:
        index = read_index(folder)
        return index and (index, [read_image_shard(folder / name) for name, _ in index.shards])
    except StaleCacheError:
        return None


def _is_same(shards: list[ImageShard], rows: ImportedDomain) -> bool:
    features = np.concatenate([shard.image_features for shard in shards])
    paths = tuple(path for shard in shards for path in shard.paths)
    return features.tobytes() == rows.features.tobytes() and paths == rows.paths


def _write_shards(folder: Path, rows: ImportedDomain, versions: dict) -> tuple[list[str], list[str]]:
    """Write the shards; returns their file names and the digests of their features."""
    names, digests, word = [], [], secrets.token_hex(4)
    for number, start in enumerate(range(0, len(rows.features), SHARD_ROWS)):
        features = rows.features[start : start + SHARD_ROWS]
        count, path = len(features), shard_path(folder, number, word)
        header = ImageHeader(
            **asdict(imported_identity(rows.encoder)),
            dataset=rows.spec.name,
            domain=rows.part,
            row_start=start,
            row_stop=start + count,
            skipped=(),
            read_at=0,
            origin=rows.origin,
            versions=versions,
        )
        unknown = np.zeros((count, DIGEST), np.uint8), np.zeros((count, 3), np.int64)  # no image was seen
        stored = list(rows.paths[start : start + count])
        write_image_shard(path, header, features, stored, np.arange(start, start + count), *unknown)
        names.append(path.name)
        digests.append(xxhash.xxh3_128(np.ascontiguousarray(features)).hexdigest())
    return names, digests


def write_imported_text(encoder_folder: Path, header: TextHeader, features: np.ndarray) -> None:
    """File (K, D) text features as a word's prompts. Raises ExecutionError on a full disk."""
    path = text_path(encoder_folder, header.word, header)
    with exclusive_lock(path.parent, lock=domain_lock(path.parent), wait=True) as alone:
        wait_for_prune(encoder_folder)
        if alone:
            remove_leftovers(path.parent)
        write_text_shard(path, header, features)
