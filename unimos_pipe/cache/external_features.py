"""Writing of imported features as a domain of the cache, in a folder of their own encoder."""

import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import xxhash

from unimos_pipe.base.atomic_io import remove_leftovers
from unimos_pipe.base.errors import Argument, InputError, ReadError, StaleCacheError, short_repr
from unimos_pipe.base.locks import exclusive_lock
from unimos_pipe.base.safe_open import list_folder
from unimos_pipe.cache.cache_paths import domain_lock, shard_path, text_path, wait_for_prune
from unimos_pipe.cache.domain_index import DomainIndex, read_index, remove_superseded, write_index
from unimos_pipe.cache.encoder_identity import imported_identity
from unimos_pipe.cache.shard import (
    ImageHeader,
    ImageShard,
    TextHeader,
    read_image_shard,
    write_image_shard,
    write_text_shard,
)
from unimos_pipe.data.dataset_spec import DatasetSpec
from unimos_pipe.data.file_digests import DIGEST_BYTES, STAMP

SHARD_ROWS = 4096


@dataclass(frozen=True)
class ImportedDomain:
    """The rows of one domain or split.

    ``features`` is (n, D) float16 of unit norm, ``paths`` n names, ``labels`` (n,) int64, -1 = none.
    """

    spec: DatasetSpec
    part: str
    encoder_name: str  # the name given by the user
    features: np.ndarray
    paths: tuple[str, ...]
    labels: np.ndarray
    origin: dict  # written to every shard's header


def check_encoder_name(name: str) -> None:
    """Raise InputError unless a name of an external encoder is a text of one line."""
    if not name.strip() or not name.isprintable() or len(name) > 200:
        raise InputError(
            (Argument("encoder_name"),), expected="a text of 1 to 200 characters in a line", got=short_repr(name)
        )


def write_imported_domain(encoder_folder: Path, domain: ImportedDomain, versions: dict, *, force: bool) -> bool:
    """Write imported rows as a domain of the cache; return True if shards were written.

    If the rows are unchanged, only their labels are written.

    Raises:
        InputError: other features of this domain and encoder exist and ``force`` is not given, D differs from that of
            the other domains, or another process is writing.
        ExecutionError: a full disk.
    """
    folder = encoder_folder / domain.part
    with exclusive_lock(folder, lock=domain_lock(folder)) as locked:
        wait_for_prune(encoder_folder)
        check_same_dim(encoder_folder, domain)
        existing = _read_domain(folder)
        unchanged = existing is not None and _has_same_rows(existing[1], domain)
        if existing is not None and not unchanged and not force:
            raise InputError(
                (
                    f"{domain.spec.name}/{domain.part} by {domain.encoder_name!r} is in {folder} with other rows; add ",
                    Argument("force", True),
                    " to replace it",
                )
            )
        if unchanged:
            paths, digests = zip(*existing[0].shards, strict=True)
        else:
            paths, digests = _write_shards(folder, domain, versions)
        index = DomainIndex(
            domain.spec.cache_name,
            domain.part,
            domain.spec.classes,
            len(domain.features),
            tuple(zip(paths, digests, strict=True)),
            domain.labels,
        )
        write_index(folder, index)
        if locked:
            remove_leftovers(folder)
            remove_superseded(folder, [folder / name for name in paths])
    return not unchanged


def check_same_dim(encoder_folder: Path, domain: ImportedDomain) -> None:
    """Raise InputError if another domain of the encoder has a different feature dimension D."""
    others = [path for path in list_folder(encoder_folder) if path.is_dir() and path.name not in ("text", domain.part)]
    for other in others:
        stored = _read_domain(other)
        if stored and (dim := stored[1][0].image_features.shape[1]) != domain.features.shape[1]:
            raise InputError(
                f"{domain.spec.name}/{domain.part} by {domain.encoder_name!r}",
                expected=f"D = {dim}, as {other.name} has by this encoder",
                got=f"D = {domain.features.shape[1]}",
                todo=("Features of another encoder need another ", Argument("encoder_name")),
            )


def _read_domain(folder: Path) -> tuple[DomainIndex, list[ImageShard]] | None:
    """A domain as it is, or None where it is absent or damaged. Raises ReadError where that cannot be told."""
    try:
        index = read_index(folder)
        return index and (index, [read_image_shard(folder / name) for name, _ in index.shards])
    except StaleCacheError:
        return None
    except ReadError as error:
        if error.absent:
            return None
        raise


def _has_same_rows(shards: list[ImageShard], domain: ImportedDomain) -> bool:
    features = np.concatenate([shard.image_features for shard in shards])
    paths = tuple(path for shard in shards for path in shard.paths)
    return features.tobytes() == domain.features.tobytes() and paths == domain.paths


def _write_shards(folder: Path, domain: ImportedDomain, versions: dict) -> tuple[list[str], list[str]]:
    """Write the shards; return their file names and the digests of their features."""
    names, digests, extraction_id = [], [], secrets.token_hex(4)
    for number, start in enumerate(range(0, len(domain.features), SHARD_ROWS)):
        features = domain.features[start : start + SHARD_ROWS]
        count, path = len(features), shard_path(folder, number, extraction_id)
        header = ImageHeader(
            **asdict(imported_identity(domain.encoder_name)),
            dataset=domain.spec.cache_name,
            domain=domain.part,
            row_start=start,
            row_stop=start + count,
            skipped=(),
            read_at=0,
            origin=domain.origin,
            versions=versions,
        )
        no_contents = (
            np.zeros((count, DIGEST_BYTES), np.uint8),
            np.zeros((count, STAMP), np.int64),
        )  # no images are known
        paths = list(domain.paths[start : start + count])
        write_image_shard(path, header, features, paths, np.arange(start, start + count), *no_contents)
        names.append(path.name)
        digests.append(xxhash.xxh3_128(np.ascontiguousarray(features)).hexdigest())
    return names, digests


def write_imported_text(encoder_folder: Path, header: TextHeader, features: np.ndarray) -> None:
    """Write (K, D) text features of a domain word's prompts. Raises ExecutionError on a full disk."""
    path = text_path(encoder_folder, header.word, header)
    with exclusive_lock(path.parent, lock=domain_lock(path.parent), wait=True) as locked:
        wait_for_prune(encoder_folder)
        if locked:
            remove_leftovers(path.parent)
        write_text_shard(path, header, features)
