"""Shards: HDF5 files of the cache, written atomically and verified by a digest when read.

An image shard holds ``image_features`` (n, D) float16, ``paths`` (n,) UTF-8, ``rows`` (n,) int64, the position in the
manifest, ``contents`` (n, 16) uint8, the xxh3_128 of each image file's bytes, and ``stamps`` (n, 5) int64, its device,
inode, size, mtime and ctime in nanoseconds. Labels are in :mod:`unimos_pipe.cache.domain_index`. A text shard holds
``text_features`` (K, D) float32 in class order. Everything that shaped the contents is in the attributes.

After the HDF5 data follow an index (JSON: the attributes, and the type, shape and offset of each array), its length,
and an xxh3 digest of all bytes before it. Any HDF5 tool opens the file. This module verifies the digest and reads by
the index, because damaged bytes can crash the HDF5 library.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import get_args

import h5py
import numpy as np
import xxhash

from unimos_pipe.base.atomic_io import atomic_write
from unimos_pipe.base.errors import Argument, ExecutionError, StaleCacheError
from unimos_pipe.base.safe_open import MAX_ARRAY_BYTES, check_whole, open_regular
from unimos_pipe.cache.encoder_identity import EncoderIdentity, TextIdentity
from unimos_pipe.cache.feature_checks import (
    image_fault,
    text_fault,
)
from unimos_pipe.cache.shard_footer import FOOTER_BYTES, OF_CONTENTS, read_footer, view_array
from unimos_pipe.data.file_digests import DIGEST_BYTES, STAMP

SCHEMA = 3
ARRAY_NAMES = {"image": ("image_features", "paths", "rows", "contents", "stamps"), "text": ("text_features",)}


@dataclass(frozen=True)
class ImageHeader(EncoderIdentity):
    """Attributes of an image shard: identity, rows in the domain, and skipped rows."""

    dataset: str
    domain: str
    row_start: int
    row_stop: int
    skipped: tuple[tuple[str, str, str], ...]  # (path, reason, content digest in hex) of skipped rows
    read_at: int  # when the images were read, in nanoseconds
    origin: dict  # of imported features: their files and options
    versions: dict
    features_digest: str = ""  # of image_features alone; the writer fills it in

    def encoder(self) -> EncoderIdentity:
        """Return the identity of the encoder."""
        return EncoderIdentity(*(getattr(self, entry.name) for entry in fields(EncoderIdentity)))


@dataclass(frozen=True)
class TextHeader(TextIdentity):
    """Attributes of a text shard."""

    dataset: str
    word: str
    templates: tuple[str, ...]
    versions: dict
    origin: dict = field(default_factory=dict)  # as in an image shard
    logit_scale: float = field(default_factory=float)  # learned 1/T of the model; 0 = the method's default


class SchemaVersionError(StaleCacheError):
    """A shard of another schema version or another kind."""


HEADERS = {"image": ImageHeader, "text": TextHeader}


@dataclass(frozen=True)
class ImageShard:
    """The contents of one image shard, verified."""

    header: ImageHeader
    image_features: np.ndarray  # (n, D) float16, unit norm
    paths: tuple[str, ...]
    rows: np.ndarray  # (n,) int64
    contents: np.ndarray  # (n, 16) uint8
    stamps: np.ndarray  # (n, 5) int64


@dataclass(frozen=True)
class TextShard:
    """The contents of one text shard, verified."""

    header: TextHeader
    text_features: np.ndarray  # (K, D) float32, unit norm
    digest: str


def write_image_shard(
    path: Path,
    header: ImageHeader,
    features: np.ndarray,
    paths: list[str],
    rows: np.ndarray,
    contents: np.ndarray,
    stamps: np.ndarray,
) -> None:
    """Write an image shard atomically.

    Args:
        features: (n, D) unit-norm features, stored as float16.
        paths: n POSIX paths.
        rows, contents, stamps: (n,) integers, (n, 16) uint8 and (n, 5) integers, as :class:`ImageShard` has them.
    Raises:
        ExecutionError: features that are not finite or not of unit norm, one for all images, or a full disk.
    """
    features = np.ascontiguousarray(features, np.float16)
    if fault := image_fault(features, contents, paths):
        raise ExecutionError(f"{path.name}: {fault}", todo=_CHECK_WEIGHTS)
    _write_shard(
        path,
        "image",
        replace(header, features_digest=xxhash.xxh3_128(features).hexdigest()),
        {
            "image_features": features,
            "paths": np.array([name.encode() for name in paths] or [b""])[: len(paths)],
            "rows": np.asarray(rows, np.int64),
            "contents": np.ascontiguousarray(contents, np.uint8),
            "stamps": np.ascontiguousarray(stamps, np.int64),
        },
    )


def write_text_shard(path: Path, header: TextHeader, features: np.ndarray) -> None:
    """Write a text shard atomically. ``features`` is (K, D), unit norm, stored as float32.

    Raises:
        ExecutionError: features that are not finite, not of unit norm or all alike, or a full disk.
    """
    if fault := text_fault(features):
        raise ExecutionError(f"{path.name}: the text features {fault}", todo=_CHECK_WEIGHTS)
    _write_shard(path, "text", header, {"text_features": features.astype(np.float32)})


def _write_shard(path: Path, kind: str, header, arrays: Mapping[str, np.ndarray]) -> None:
    attributes = {name: json.dumps(value, ensure_ascii=False) for name, value in asdict(header).items()}
    content = _encode_file({"schema": SCHEMA, "kind": kind, **attributes}, arrays)
    try:
        with atomic_write(path) as part:
            part.write_bytes(content)
    except OSError as error:
        raise ExecutionError(
            f"cannot write {path}: {error.strerror}. Finished shards are kept; free disk space and run it again"
        ) from None


def _encode_file(attributes: Mapping, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return a shard as bytes. HDF5 writes to memory, because it crashes on a full disk."""
    with h5py.File("shard", "w", driver="core", backing_store=False) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)  # contiguous, uncompressed
        for name, value in attributes.items():
            file.attrs[name] = value
        file.flush()
        layout = {
            name: [array.dtype.str, array.shape, file[name].id.get_offset() or 0] for name, array in arrays.items()
        }
        hdf5_bytes = file.id.get_file_image()
    index = json.dumps({"attributes": dict(attributes), "arrays": layout}, ensure_ascii=False).encode()
    content = hdf5_bytes + index + len(index).to_bytes(8, "little")
    return content + xxhash.xxh3_128(content).digest()


def read_image_shard(path: Path, into: tuple[np.ndarray, int] | None = None) -> ImageShard:
    """Read and verify an image shard.

    Args:
        into: (n, D) float16 array to read the features into, and their offset in the file; avoids a copy.
    Raises:
        StaleCacheError: not a shard of this schema, a digest that does not match, or arrays that do not fit each
            other or the header.
    """
    header, arrays, _ = _read_shard(path, "image", into)
    features, paths, rows, contents, stamps = (arrays[name] for name in ARRAY_NAMES["image"])
    consistent = (
        features.dtype == np.float16
        and features.ndim == 2
        and rows.dtype == stamps.dtype == np.int64
        and contents.dtype == np.uint8
        and paths.dtype.kind == "S"
        and rows.shape == paths.shape == features.shape[:1]
        and contents.shape == (len(rows), DIGEST_BYTES)
        and stamps.shape in ((len(rows), STAMP), (len(rows), STAMP - 2))
        and len(rows) == header.row_stop - header.row_start - len(header.skipped)
        and bool(np.all(np.diff([header.row_start - 1, *rows.tolist(), header.row_stop]) > 0))
    )
    if not consistent:
        raise StaleCacheError(f"{path}: its rows do not fit each other or its header", todo=_REBUILD)
    try:
        # decoded at once, 5x faster than one by one
        names = tuple(b"\0".join(paths.tolist()).decode().split("\0")) if len(paths) else ()
    except UnicodeDecodeError:
        names = ()
    if len(names) != len(rows):
        raise StaleCacheError(f"{path}: paths that are not UTF-8, or have a null character", todo=_REBUILD)
    if stamps.shape[1] < STAMP:  # of earlier versions, without device and inode: such files are read again
        stamps = np.concatenate([np.full((len(rows), 2), -1), stamps], 1)
    return ImageShard(header, features, names, rows, contents, stamps)


def read_text_shard(path: Path) -> TextShard:
    """Read and verify a text shard. Raises StaleCacheError as :func:`read_image_shard` does."""
    header, arrays, digest = _read_shard(path, "text")
    features = arrays["text_features"]
    if features.dtype != np.float32 or features.ndim != 2 or len(features) != len(header.class_names):
        raise StaleCacheError(f"{path}: its rows do not fit its header", todo=_REBUILD)
    return TextShard(header, features, digest)


def read_header(path: Path, kind: str = "image"):
    """Return a shard's header without verifying the digest.

    Raises:
        StaleCacheError: not a shard of this schema.
    """
    with open_regular(path, MAX_ARRAY_BYTES) as file, _judged(path):
        return _parse_header(path, read_footer(file), kind)


@contextlib.contextmanager
def _judged(path: Path) -> Iterator[None]:
    """Whatever bytes that were read raise in the block is a damaged shard; what the system raises is not."""
    try:
        yield
    except OF_CONTENTS as error:
        raise StaleCacheError(f"{path} is damaged or not a shard ({type(error).__name__})", todo=_REBUILD) from None


def _read_shard(path: Path, kind: str, into: tuple[np.ndarray, int] | None = None):
    """Return header, arrays (read-only, except features read into ``into``) and digest of a shard."""
    digest, head, start, arrays = xxhash.xxh3_128(), b"", 0, {}
    with open_regular(path, MAX_ARRAY_BYTES) as file, _judged(path):
        if into is not None:
            features, offset = into
            head = file.read(offset)
            start = len(head) + file.readinto(features.reshape(-1).view(np.uint8))
            arrays = {"image_features": features}
            digest.update(head)
            digest.update(features)
        tail = file.read()
        check_whole(file, path, start + len(tail))
        digest.update(memoryview(tail)[:-DIGEST_BYTES])
        if digest.digest() != tail[-DIGEST_BYTES:]:
            raise StaleCacheError(f"{path}: the contents do not match their digest, the file is damaged", todo=_REBUILD)
        length = int.from_bytes(tail[-FOOTER_BYTES:-DIGEST_BYTES], "little")
        end = len(tail) - FOOTER_BYTES
        index = json.loads(tail[max(0, end - length) : end])
        header, entries = _parse_header(path, index, kind), index["arrays"]
        if arrays and entries["image_features"] != ["<f2", list(features.shape), offset]:
            raise ValueError("another file than the one whose features were asked for")
        for name in ARRAY_NAMES[kind]:
            if name not in arrays:
                dtype, shape, offset = entries[name]
                part = (tail, offset - start) if offset >= start else (head, offset)
                arrays[name] = view_array(part[0], dtype, shape, part[1])
    return header, arrays, digest.hexdigest()


_CHECK_WEIGHTS = ("Check the weights, or try ", Argument("precision", "fp32"))
_REBUILD = "Delete it and run extract again"
_RENEW = ("Make these features again: extract with ", Argument("force", True))


def _parse_header(path: Path, index: Mapping, kind: str):
    """Return the header in a shard's index. Raises StaleCacheError for another schema, any exception for damage."""
    attributes = index["attributes"]
    if (attributes["schema"], attributes["kind"]) != (SCHEMA, kind):
        got = f"schema {attributes['schema']}, kind {attributes['kind']}"
        raise SchemaVersionError(f"{path}", expected=f"schema {SCHEMA}, kind {kind}", got=got, todo=_RENEW)
    header_class = HEADERS[kind]
    present = [entry for entry in fields(header_class) if entry.name in attributes or not _is_optional(entry)]
    values = {entry.name: _lists_to_tuples(json.loads(attributes[entry.name])) for entry in present}
    if mistyped := [entry.name for entry in present if not _matches_type(values[entry.name], entry.type)]:
        raise ValueError(f"{mistyped[0]} is of another type")
    return header_class(**values)


def _is_optional(entry: Field) -> bool:
    """Return True for an attribute that shards of earlier versions lack; its default applies to them."""
    return entry.default_factory is not MISSING


def _matches_type(value, kind) -> bool:
    """Return True if a value matches a header field's type: a plain type, or tuples of one."""
    parts = get_args(kind)
    if not parts:
        return isinstance(value, kind) and not isinstance(value, bool)
    if not isinstance(value, tuple):
        return False
    if parts[-1] is Ellipsis:
        return all(_matches_type(item, parts[0]) for item in value)
    return len(value) == len(parts) and all(_matches_type(*pair) for pair in zip(value, parts, strict=True))


def _lists_to_tuples(value):
    """Convert JSON lists to tuples, so that a header read equals the header written."""
    return tuple(_lists_to_tuples(item) for item in value) if isinstance(value, list) else value


def first_difference(actual, expected) -> tuple[str, object, object] | None:
    """Return the first field in which two identities differ, as (name, actual, expected), or None."""
    for entry in fields(expected):
        pair = getattr(actual, entry.name), getattr(expected, entry.name)
        if pair[0] != pair[1]:
            return entry.name, *pair
    return None
