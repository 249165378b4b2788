"""One HDF5 file of the cache: written whole or not at all, read only if its digest holds.

An image shard holds ``image_features`` (n, D) float16, ``labels`` (n,) int64 (-1 = none), ``paths`` (n,) UTF-8 and
``rows`` (n,) int64, the position in the manifest. A text shard holds ``text_features`` (K, D) float32 in class order.
Everything that shaped the contents is in the attributes, and the digest covers data and attributes alike.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import h5py
import numpy as np
import xxhash

from unimos_pipe.errors import RunError, StaleCacheError, UserError
from unimos_pipe.files import replacing
from unimos_pipe.identity import ImageIdentity, TextIdentity

SCHEMA = 1
DATASETS = {"image": ("image_features", "labels", "paths", "rows"), "text": ("text_features",)}


@dataclass(frozen=True)
class ImageHeader(ImageIdentity):
    """Attributes of an image shard: identity, place in the domain, and what was left out."""

    dataset: str
    domain: str
    class_names: tuple[str, ...]
    row_start: int
    row_stop: int
    row_total: int
    skipped: tuple[tuple[str, str], ...]  # (path, reason) of rows left out by --on-error skip
    versions: dict

    def identity(self) -> ImageIdentity:
        """The part that must match for the features to be reused."""
        return ImageIdentity(*(getattr(self, entry.name) for entry in fields(ImageIdentity)))


@dataclass(frozen=True)
class TextHeader(TextIdentity):
    """Attributes of a text shard."""

    dataset: str
    word: str
    templates: tuple[str, ...]
    versions: dict


@dataclass(frozen=True)
class ImageShard:
    """The contents of one image shard, verified."""

    header: ImageHeader
    image_features: np.ndarray  # (n, D) float16, unit norm
    labels: np.ndarray  # (n,) int64
    paths: tuple[str, ...]
    rows: np.ndarray  # (n,) int64
    digest: str


@dataclass(frozen=True)
class TextShard:
    """The contents of one text shard, verified."""

    header: TextHeader
    text_features: np.ndarray  # (K, D) float32, unit norm
    digest: str


def write_image_shard(
    path: Path, header: ImageHeader, features: np.ndarray, labels: np.ndarray, paths: list[str], rows: np.ndarray
) -> None:
    """Write an image shard atomically.

    Args:
        features: (n, D) unit-norm features, stored as float16.
        labels, rows: (n,) integers.
        paths: n POSIX paths.
    Raises:
        RunError: features that are not finite or not of unit norm, or a full disk.
    """
    features = features.astype(np.float16)
    norms = np.linalg.norm(features.astype(np.float32), axis=1)
    if not np.all(np.abs(norms - 1) < 1e-2):  # NaN fails this too
        row = int(np.argmax(~(np.abs(norms - 1) < 1e-2)))
        raise RunError(
            f"{path.name}: the encoder's feature of {paths[row]}",
            expected="unit norm",
            got=norms[row],
            todo="Check the weights, or try --precision fp32",
        )
    encoded = np.array([name.encode() for name in paths] or [b""])[: len(paths)]
    _write(
        path,
        "image",
        header,
        {
            "image_features": features,
            "labels": np.asarray(labels, np.int64),
            "paths": encoded,
            "rows": np.asarray(rows, np.int64),
        },
    )


def write_text_shard(path: Path, header: TextHeader, features: np.ndarray) -> None:
    """Write a text shard atomically. ``features`` is (K, D), unit norm, stored as float32."""
    _write(path, "text", header, {"text_features": features.astype(np.float32)})


def _write(path: Path, kind: str, header, arrays: Mapping[str, np.ndarray]) -> None:
    attributes = {
        "schema": SCHEMA,
        "kind": kind,
        **{name: json.dumps(value, ensure_ascii=False) for name, value in asdict(header).items()},
    }
    digest = _digest(attributes, arrays)
    try:
        with replacing(path) as part, h5py.File(part, "w", locking=False) as file:
            for name, array in arrays.items():
                fill = np.nan if array.dtype.kind == "f" else None
                file.create_dataset(name, data=array, fillvalue=fill)  # contiguous, uncompressed
            for name, value in attributes.items():
                file.attrs[name] = value
            file.attrs["digest"] = digest
    except OSError as error:
        reason = error.strerror or str(error).split("(")[0].strip()
        raise RunError(f"cannot write {path}: {reason}; shards already written are kept") from None


def _digest(attributes: Mapping, arrays: Mapping[str, np.ndarray]) -> str:
    state = xxhash.xxh3_128(json.dumps(attributes, sort_keys=True, ensure_ascii=False).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        state.update(f"{name} {array.dtype.str} {array.shape}".encode())
        state.update(array.view(np.uint8).data if array.size else b"")
    return state.hexdigest()


def read_image_shard(path: Path) -> ImageShard:
    """Read and verify an image shard.

    Raises:
        StaleCacheError: not a whole shard of this schema, or contents that its digest does not cover.
    """
    header, arrays, digest = _read(path, "image", ImageHeader)
    names = tuple(name.decode() for name in arrays["paths"].tolist())
    return ImageShard(header, arrays["image_features"], arrays["labels"], names, arrays["rows"], digest)


def read_text_shard(path: Path) -> TextShard:
    """Read and verify a text shard. Raises StaleCacheError as :func:`read_image_shard` does."""
    header, arrays, digest = _read(path, "text", TextHeader)
    return TextShard(header, arrays["text_features"], digest)


def _read(path: Path, kind: str, header_class: type):
    try:
        with h5py.File(path, "r", locking=False) as file:
            attributes = {
                name: value.item() if isinstance(value, np.generic) else value for name, value in file.attrs.items()
            }
            if attributes.get("schema") != SCHEMA or attributes.get("kind") != kind:
                got = f"schema {attributes.get('schema')}, kind {attributes.get('kind')}"
                raise StaleCacheError(f"{path}", expected=f"schema {SCHEMA}, kind {kind}", got=got, todo=_REBUILD)
            arrays = {name: _read_whole(path, file[name]) for name in DATASETS[kind]}
    except StaleCacheError:
        raise
    except PermissionError:
        raise UserError(f"{path}: no permission to read it") from None
    except Exception as error:  # h5py raises many kinds on a damaged file
        raise StaleCacheError(f"{path} is damaged or not a shard ({type(error).__name__})", todo=_REBUILD) from None
    recorded = attributes.pop("digest", None)
    if recorded != _digest(attributes, arrays):
        raise StaleCacheError(f"{path}: the contents do not match their digest, the file is damaged", todo=_REBUILD)
    values = {entry.name: _tuples(json.loads(attributes[entry.name])) for entry in fields(header_class)}
    return header_class(**values), arrays, recorded


_REBUILD = "Delete it and run extract again"


def _read_whole(path: Path, dataset: h5py.Dataset) -> np.ndarray:
    """Read a data set of which the file really holds every byte (a forged shape must not exhaust memory)."""
    if dataset.nbytes > path.stat().st_size or dataset.dtype.hasobject:
        raise ValueError("a data set larger than its file")
    array = np.empty(dataset.shape, dataset.dtype)
    if array.size:
        dataset.read_direct(array)
    return array


def _tuples(value):
    """JSON's lists as tuples, so that a header read equals the header written."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def differing_field(found, wanted) -> tuple[str, object, object] | None:
    """The first field in which two identities differ, as (name, found value, wanted value), or None."""
    for entry in fields(wanted):
        pair = getattr(found, entry.name), getattr(wanted, entry.name)
        if pair[0] != pair[1]:
            return entry.name, *pair
    return None
