"""Which arrays of a file are features, labels and paths; and features as the cache keeps them: unit rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unimos_pipe.base.atomic_io import file_sha256
from unimos_pipe.base.errors import InputError, join_names
from unimos_pipe.data.row_lists import PATH_HEADS
from unimos_pipe.interop.file_formats import LazyArray, open_arrays

FEATURES = ("features", "feature", "fea", "feats", "image_features", "img_emb", "embeddings", "embedding", "x", "")
TEXT = ("text", "text_features", "classifier", "weights", "")
LABELS = ("labels", "label", "targets", "target", "y", "class")
PATHS = (*PATH_HEADS, "paths", "filenames", "files")
UNIT = 1e-3  # a norm this close to 1 is 1 up to float16's rounding: such rows are kept to the bit
BLOCK = 8192  # rows normalised at once


@dataclass(frozen=True)
class FeatureRows:
    """What one or more files hold of n rows: unit features (n, D), and labels and paths if they are there.

    ``labels`` are numbers or class names; ``about`` says of each file what it was.
    """

    features: np.ndarray
    labels: np.ndarray | None
    paths: tuple[str, ...] | None
    about: tuple[dict[str, Any], ...]


def read_rows(
    files: Sequence[Path],
    *,
    key: str | None = None,
    group: str = "",
    dtype: type = np.float16,
    names: Sequence[str] = FEATURES,
) -> FeatureRows:
    """Read the features of files, in the order given, as one domain, each row divided by its length.

    Args:
        key: the array's name, where a file holds several.
        group: the domain's name in files laid out as ``domains/<domain>/label`` and ``.../views/<view>/feature``.
        dtype: of the features: float16 as images', float32 as text's.
        names: what features are usually called.
    Raises:
        InputError: what :func:`unimos_pipe.interop.file_formats.open_arrays` raises, no array of features or several,
            numbers of another kind, rows that are not finite or have no direction, or files that do not fit each other.
    """
    parts = [_read(file, key, group, dtype, names) for file in files]
    first = parts[0]
    for file, part in zip(files, parts, strict=True):
        if part.features.shape[1] != first.features.shape[1]:
            expected = f"D = {first.features.shape[1]}, as {files[0]}"
            raise InputError(f"{file}", expected=expected, got=f"D = {part.features.shape[1]}")
        if (part.labels is None) != (first.labels is None) or (part.paths is None) != (first.paths is None):
            raise InputError(f"{file} and {files[0]}: only one of them has labels or paths; they are one domain")
    return FeatureRows(
        np.concatenate([part.features for part in parts]),
        None if first.labels is None else np.concatenate([part.labels for part in parts]),
        None if first.paths is None else tuple(path for part in parts for path in part.paths),
        tuple(entry for part in parts for entry in part.about),
    )


def read_paths(file: Path) -> list[str]:
    """The paths in a file of arrays, such as the ``metadata_0.parquet`` of clip-retrieval. Raises InputError."""
    with open_arrays(file) as arrays:
        name = _first(arrays, PATHS, "text")
        if name is None:
            raise InputError(f"{file} has no column of paths", expected=join_names(PATHS, 12), got=_inside(arrays))
        return arrays[name].read().tolist()


def _read(file: Path, key: str | None, group: str, dtype: type, names: Sequence[str]) -> FeatureRows:
    with open_arrays(file) as arrays:
        chosen = _chosen(file, arrays, key, group, names)
        head, views, _ = chosen.partition("/views/")
        labels = [f"{head}/label", f"{head}/labels"] if views else LABELS
        label = next((name for name in labels if name in arrays and len(arrays[name].shape) <= 2), None)
        path = _first(arrays, PATHS, "text")
        stored, place = arrays[chosen], f"{file}: {chosen}" if chosen else f"{file}"
        features, norms = unit_rows(stored.read(), dtype, place)
        found = None if label is None else np.asarray(arrays[label].read()).reshape(-1)
        if found is not None and len(found) != len(features):
            raise InputError(f"{file}: {label}", expected=f"{len(features)} labels, one a row", got=len(found))
        paths = None if path is None else tuple(str(name) for name in arrays[path].read().tolist())
    about = {"file": file.name, "sha256": file_sha256(file), "array": chosen, "dtype": stored.dtype}
    return FeatureRows(features, found, paths, ({**about, "shape": list(stored.shape), "norms": norms},))


def _chosen(file: Path, arrays: Mapping[str, LazyArray], key: str | None, group: str, names: Sequence[str]) -> str:
    """The name of the array of features. Raises InputError where it cannot be told."""
    if key is not None:
        if key not in arrays:
            raise InputError(f"{file} has no array {key!r}; it has {_inside(arrays)}")
        return key
    tables = {name: array for name, array in arrays.items() if len(array.shape) == 2 and "float" in array.dtype}
    views = {name for name in tables if name.startswith("domains/") and "/views/" in name}
    if views:
        own = {name for name in views if name.split("/")[1].lower().replace(" ", "_") == group.lower()}
        tables = {name: tables[name] for name in own}
    named = _first(tables, names, "float")
    if named is not None or len(tables) == 1:
        return next(iter(tables)) if named is None else named
    what = "several arrays that may be the features; name one with --key" if tables else "no (n, D) array of floats"
    raise InputError(f"{file} has {what}: it has {_inside(arrays)}")


def _first(arrays: Mapping[str, LazyArray], names: Iterable[str], kind: str) -> str | None:
    """The first of the usual names that an array of a kind has, whatever the case."""
    known = {name.lower(): name for name, array in arrays.items() if kind in array.dtype}
    return next((known[name] for name in names if name in known), None)


def _inside(arrays: Mapping[str, LazyArray]) -> str:
    return join_names((f"{name} ({array})" if name else str(array) for name, array in arrays.items()), 12)


def unit_rows(features: np.ndarray, dtype: type, what: str) -> tuple[np.ndarray, list[float]]:
    """(n, D) features with every row divided by its length, in ``dtype``; and the least and the greatest length.

    Rows that are of unit norm up to float16's rounding are not divided, so that features of our own come back as they
    were.

    Raises:
        InputError: another shape, numbers that are no floats, or a row that is not finite or zero.
    """
    if features.ndim != 2 or features.dtype.kind != "f" or not features.size:
        raise InputError(f"{what}", expected="(n, D) floats", got=f"{features.dtype} of shape {features.shape}")
    unit, ends = np.empty(features.shape, dtype), []
    for start in range(0, len(features), BLOCK):
        rows = np.asarray(features[start : start + BLOCK], np.float64)
        norms = np.linalg.norm(rows, axis=1)
        if len(bad := np.flatnonzero(~np.isfinite(norms) | (norms == 0))):
            fault = "is zero, which has no direction" if norms[bad[0]] == 0 else "has values that are not finite"
            raise InputError(f"{what}: row {start + bad[0]} (counted from 0) {fault}")
        scale = np.where(np.abs(norms - 1) < UNIT, 1.0, norms)
        unit[start : start + BLOCK] = rows / scale[:, None]
        ends += [norms.min(), norms.max()]
    return unit, [round(float(min(ends)), 6), round(float(max(ends)), 6)]
