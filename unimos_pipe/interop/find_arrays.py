"""Reading of feature files: find the arrays of features, labels and paths, and normalise the features."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unimos_pipe.base.atomic_io import file_sha256
from unimos_pipe.base.errors import Argument, InputError, join_names
from unimos_pipe.data.row_lists import PATH_COLUMNS
from unimos_pipe.interop.array_readers import LazyArray, open_arrays
from unimos_pipe.interop.find_labels import LABEL_NAMES, column_candidates, usual_label_name

FEATURE_NAMES = ("features", "feature", "fea", "feats", "image_features", "img_emb", "embeddings", "embedding", "x", "")
TEXT_NAMES = ("text", "text_features", "classifier", "weights", "")
PATH_NAMES = (*PATH_COLUMNS, "paths", "filenames", "files")
UNIT_TOLERANCE = 1e-3  # norms this close to 1 are float16 rounding; such rows are not changed
BLOCK_ROWS = 8192  # rows normalised at once
USUAL_DIMS = frozenset({256, 384, 512, 640, 768, 1024, 1152, 1280, 1536, 2048, 4096})  # sizes D of image features
FEW_VALUES = 8  # so few different values in a table are labels, not features


@dataclass(frozen=True)
class FeatureRows:
    """The n rows of one or more files: unit features (n, D), and labels and paths if present.

    ``labels`` are numbers or class names; ``file_records`` describes each file. Without labels, ``columns`` holds the
    arrays of n integers or texts that may be labels.
    """

    features: np.ndarray
    labels: np.ndarray | None
    paths: tuple[str, ...] | None
    file_records: tuple[dict[str, Any], ...]
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)


ImageAxis = Literal["rows", "columns"]


@dataclass(frozen=True, kw_only=True)
class ArrayChoice:
    """Arrays to read from a file, where it holds several, and their axis of images."""

    key: str | None = None  # name of the features; None looks for them
    label_key: str | None = None  # name of the labels; None looks for them, "" takes none
    images_in: ImageAxis | None = None  # axis of the images; None takes rows, and raises if columns fit better


def read_feature_files(
    files: Sequence[Path],
    *,
    choice: ArrayChoice = ArrayChoice(),
    group: str = "",
    dtype: type = np.float16,
    names: Sequence[str] = FEATURE_NAMES,
) -> FeatureRows:
    """Read the features of files, in the given order, as one domain with rows of unit norm.

    Args:
        choice: names of arrays, needed if a file has several candidates, and the axis of the images.
        group: the domain's name in files laid out as ``domains/<domain>/label`` and ``.../views/<view>/feature``.
        dtype: of the features: float16 for images, float32 for text.
        names: usual names of feature arrays.
    Raises:
        InputError: what :func:`unimos_pipe.interop.array_readers.open_arrays` raises, no array of features or several,
            another type of numbers, rows that are not finite or zero, values that are no features, or files that do not
            fit each other.
    """
    parts = [_read_file(file, choice, group, dtype, names) for file in files]
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
        tuple(entry for part in parts for entry in part.file_records),
        {
            name: np.concatenate([part.columns[name] for part in parts])
            for name in first.columns
            if all(name in part.columns for part in parts)
        },
    )


def read_paths(file: Path) -> list[str]:
    """Return the paths in a file of arrays, such as the ``metadata_0.parquet`` of clip-retrieval. Raises InputError."""
    with open_arrays(file) as arrays:
        name = _find_usual_name(arrays, PATH_NAMES, "text")
        if name is None:
            raise InputError(
                f"{file} has no column of paths", expected=join_names(PATH_NAMES, 12), got=_describe_arrays(arrays)
            )
        return arrays[name].read().tolist()


def _read_file(file: Path, choice: ArrayChoice, group: str, dtype: type, names: Sequence[str]) -> FeatureRows:
    with open_arrays(file) as arrays:
        array_name = _find_features(file, arrays, choice.key, group, names)
        label = _find_label_name(file, arrays, choice.label_key, array_name)
        path = _find_usual_name(arrays, PATH_NAMES, "text")
        stored, where = arrays[array_name], f"{file}: {array_name}" if array_name else f"{file}"
        label_values = None if label is None else np.asarray(arrays[label].read()).reshape(-1)
        values = stored.read()
        if names is FEATURE_NAMES:
            row_count = None if label_values is None else len(label_values)
            values = _put_images_in_rows(values, choice.images_in, row_count, where)
            if choice.key is None:
                _check_values(values, where)
        features, norms = normalize_rows(values, dtype, where)
        if label_values is not None and len(label_values) != len(features):
            raise InputError(f"{file}: {label}", expected=f"{len(features)} labels, one a row", got=len(label_values))
        paths = None if path is None else tuple(str(name) for name in arrays[path].read().tolist())
        ask = label is None and choice.label_key is None
        columns = column_candidates(arrays, len(features), (array_name, path)) if ask else {}
    file_record = {"file": file.name, "sha256": file_sha256(file), "array": array_name, "dtype": stored.dtype}
    file_record |= {"shape": list(stored.shape), "norms": norms}
    return FeatureRows(features, label_values, paths, (file_record,), columns)


def _find_label_name(file: Path, arrays: Mapping[str, LazyArray], label_key: str | None, features: str) -> str | None:
    """Return the name of the array of labels, or None. Raises InputError if the one named does not exist."""
    if label_key is not None:
        if label_key and label_key not in arrays:
            raise InputError(f"{file} has no array {label_key!r}; it has {_describe_arrays(arrays)}")
        return label_key or None
    head, views, _ = features.partition("/views/")
    if views:
        return next((name for name in (f"{head}/label", f"{head}/labels") if name in arrays), None)
    others = {name: array for name, array in arrays.items() if name != features}
    return usual_label_name(others, LABEL_NAMES)


def _put_images_in_rows(values: np.ndarray, images_in: ImageAxis | None, labels: int | None, what: str) -> np.ndarray:
    """Return the array with an image a row.

    Args:
        labels: number of labels, if the file has them.
    Raises:
        InputError: no axis was given, and the columns fit the labels or the usual sizes better than the rows.
    """
    if values.ndim != 2 or images_in == "rows":
        return values
    if images_in == "columns":
        return values.T
    rows, columns = values.shape
    fits_labels = labels is not None and rows != labels == columns
    fits_dims = labels is None and columns > rows and rows in USUAL_DIMS and columns not in USUAL_DIMS
    if fits_labels or fits_dims:
        raise InputError(
            (
                f"{what} of shape ({rows}, {columns}) is {rows} images of D = {columns}, or {columns} images of "
                f"D = {rows}; say which with ",
                Argument("images_in", "rows"),
                " or ",
                Argument("images_in", "columns"),
            )
        )
    return values


def _check_values(values: np.ndarray, what: str) -> None:
    """Raise InputError for a table of so few different values that it is one of labels, such as one-hot rows."""
    block = np.asarray(values[:BLOCK_ROWS])
    if block.ndim != 2 or block.shape[1] < 3 or block.size < 8 * FEW_VALUES or not np.isfinite(block).all():
        return
    distinct = np.unique(block)
    if len(distinct) <= FEW_VALUES:
        raise InputError(
            (
                f"{what} has {len(distinct)} different values ({join_names(f'{value:g}' for value in distinct)}), "
                "as labels have; if these are features, name their array as ",
                Argument("key"),
            )
        )


def _find_features(
    file: Path, arrays: Mapping[str, LazyArray], key: str | None, group: str, names: Sequence[str]
) -> str:
    """Return the name of the array of features. Raises InputError if it is ambiguous."""
    if key is not None:
        if key not in arrays:
            raise InputError(f"{file} has no array {key!r}; it has {_describe_arrays(arrays)}")
        return key
    tables = {name: array for name, array in arrays.items() if len(array.shape) == 2 and "float" in array.dtype}
    views = {name for name in tables if name.startswith("domains/") and "/views/" in name}
    if views:
        group_views = {name for name in views if name.split("/")[1].lower().replace(" ", "_") == group.lower()}
        tables = {name: tables[name] for name in group_views}
    usual_name = _find_usual_name(tables, names, "float")
    if usual_name is not None or len(tables) == 1:
        return next(iter(tables)) if usual_name is None else usual_name
    if not tables:
        raise InputError(f"{file} has no (n, D) array of floats: it has {_describe_arrays(arrays)}")
    several = f"{file} has several arrays that may be the features; name one with "
    raise InputError((several, Argument("key"), f": it has {_describe_arrays(arrays)}"))


def _find_usual_name(arrays: Mapping[str, LazyArray], names: Iterable[str], kind: str) -> str | None:
    """Return the first of the usual names that an array of a type has, ignoring case."""
    names_by_lower = {name.lower(): name for name, array in arrays.items() if kind in array.dtype}
    return next((names_by_lower[name] for name in names if name in names_by_lower), None)


def _describe_arrays(arrays: Mapping[str, LazyArray]) -> str:
    return join_names((f"{name} ({array})" if name else str(array) for name, array in arrays.items()), 12)


def normalize_rows(features: np.ndarray, dtype: type, what: str) -> tuple[np.ndarray, list[float]]:
    """Return (n, D) features with rows of unit norm, in ``dtype``, and the smallest and largest norm before.

    Rows of unit norm up to float16 rounding are not divided, so exported features are imported bit by bit.

    Raises:
        InputError: another shape, a type other than float, or a row that is zero or not finite.
    """
    if features.ndim != 2 or features.dtype.kind != "f" or not features.size:
        raise InputError(f"{what}", expected="(n, D) floats", got=f"{features.dtype} of shape {features.shape}")
    unit, norm_range = np.empty(features.shape, dtype), []
    for start in range(0, len(features), BLOCK_ROWS):
        rows = np.asarray(features[start : start + BLOCK_ROWS], np.float64)
        norms = np.linalg.norm(rows, axis=1)
        if len(bad := np.flatnonzero(~np.isfinite(norms) | (norms == 0))):
            fault = "is zero, which has no direction" if norms[bad[0]] == 0 else "has values that are not finite"
            raise InputError(f"{what}: row {start + bad[0]} (counted from 0) {fault}")
        scale = np.where(np.abs(norms - 1) < UNIT_TOLERANCE, 1.0, norms)
        unit[start : start + BLOCK_ROWS] = rows / scale[:, None]
        norm_range += [norms.min(), norms.max()]
    return unit, [round(float(min(norm_range)), 6), round(float(max(norm_range)), 6)]
