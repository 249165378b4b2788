"""The index of a domain: its list of shards and the label of each row; replaced by one rename.

``domain.json`` is in the folder of the shards. It is authoritative: shards it does not list are ignored (still being
written, or superseded). Labels and class names are here and not in the shards, so renaming a class or relabelling an
image changes no feature.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import xxhash

from unimos_pipe.base.atomic_io import atomic_write
from unimos_pipe.base.errors import Argument, ExecutionError, ReadError, StaleCacheError
from unimos_pipe.base.safe_open import MAX_TEXT_BYTES, read_bytes
from unimos_pipe.cache.cache_paths import index_path, shard_files
from unimos_pipe.data.manifest import NO_LABEL

SCHEMA = 3
HEADER = '{"digest": "%s", '  # of all bytes behind it


@dataclass(frozen=True)
class DomainIndex:
    """The contents of ``domain.json``.

    ``row_total`` is the number of rows of the manifest, ``shards`` (file name, features' digest) in order, ``labels``
    (n,) int64 of the stored rows, -1 = none.
    """

    dataset: str
    domain: str
    class_names: tuple[str, ...]
    row_total: int
    shards: tuple[tuple[str, str], ...]
    labels: np.ndarray

    def labels_digest(self) -> str:
        """Return a digest of class names and labels. A run depends on it, the features and the prompts."""
        names = json.dumps(self.class_names, ensure_ascii=False).encode()
        return xxhash.xxh3_128(names + self.labels.astype("<i8").tobytes()).hexdigest()

    def equals(self, other: "DomainIndex") -> bool:
        """Return True if both have the same contents."""
        return _to_dict(self) == _to_dict(other)


def _to_dict(index: DomainIndex) -> dict:
    """Return the index as plain values."""
    return {**asdict(index), "labels": index.labels.tolist()}


def write_index(folder: Path, index: DomainIndex) -> None:
    """Write ``domain.json`` atomically.

    Raises:
        ExecutionError: the file cannot be written, for instance on a full disk.
    """
    body = json.dumps({"schema": SCHEMA, **_to_dict(index)}, ensure_ascii=False)[1:].encode()
    path = index_path(folder)
    try:
        with atomic_write(path) as part:
            part.write_bytes((HEADER % xxhash.xxh3_128(body).hexdigest()).encode() + body)
    except OSError as error:
        raise ExecutionError(
            f"cannot write {path}: {error.strerror}. Finished shards are kept; free disk space and run it again"
        ) from None


def read_index(folder: Path) -> DomainIndex | None:
    """Return the verified index of a domain, or None if there is none.

    Raises:
        StaleCacheError: a damaged index, or one of another schema.
        ReadError: one that cannot be read.
    """
    path = index_path(folder)
    try:
        content = read_bytes(path, MAX_TEXT_BYTES)
    except ReadError as error:
        if error.absent:
            return None
        raise
    try:
        return _parsed(content, path)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise StaleCacheError(
            f"{path} is damaged ({type(error).__name__})", todo="Run extract again; features that are whole are kept"
        ) from None


def _parsed(content: bytes, path: Path) -> DomainIndex:
    """The index that bytes hold. Raises StaleCacheError for another schema, and what json and numpy raise."""
    start = len(HEADER % ("0" * 32))
    if content[:start] != (HEADER % xxhash.xxh3_128(content[start:]).hexdigest()).encode():
        raise ValueError("digest")
    values = json.loads(content)
    if values["schema"] != SCHEMA:
        raise StaleCacheError(f"{path}", expected=f"schema {SCHEMA}", got=values["schema"], todo=_FORCE_HINT)
    labels = np.array(values["labels"] or np.zeros(0, np.int64))
    index = DomainIndex(
        str(values["dataset"]),
        str(values["domain"]),
        tuple(str(name) for name in values["class_names"]),
        int(values["row_total"]),
        tuple((str(name), str(digest)) for name, digest in values["shards"]),
        labels,
    )
    names_valid = all("/" not in name and name.startswith("shard-") for name, _ in index.shards)
    labels_valid = labels.dtype == np.int64 and labels.ndim == 1 and bool(np.all(labels >= NO_LABEL))
    if not (index.shards and names_valid and labels_valid and np.all(labels < len(index.class_names))):
        raise ValueError("labels")
    return index


def remove_superseded(folder: Path, shards: Sequence[Path]) -> None:
    """Remove all shard files of a folder except the given ones. The folder's lock must be held."""
    for path in set(shard_files(folder)) - set(shards):
        path.unlink(missing_ok=True)


_FORCE_HINT = ("Encode the domain again with ", Argument("force", True))
