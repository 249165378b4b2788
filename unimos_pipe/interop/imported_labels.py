"""Labels of imported rows in the data set's class order."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from unimos_pipe.base.errors import InputError, join_names, short_repr
from unimos_pipe.data.class_names import match_class_names
from unimos_pipe.data.label_ids import labels_from_names, labels_from_numbers
from unimos_pipe.data.manifest import NO_LABEL
from unimos_pipe.data.row_lists import (
    ManifestRow,
    read_row_labels,
    read_row_paths,
    row_names,
)
from unimos_pipe.interop.array_readers import ARRAY_READERS
from unimos_pipe.interop.find_arrays import FeatureRows, read_paths
from unimos_pipe.interop.find_labels import choose_labels, read_label_array


@dataclass(frozen=True)
class LabelledRows:
    """Names of n rows and (n,) int64 labels, -1 = none; ``notes`` are shown as warnings."""

    paths: tuple[str, ...]
    labels: np.ndarray
    notes: tuple[str, ...] = ()


def label_rows(
    rows: FeatureRows, classes: Sequence[str], labels: Path | None, paths: Sequence[Path], what: str
) -> LabelledRows:
    """Combine the labels and paths of feature files, a CSV of labels and lists of paths.

    Args:
        labels: a CSV of ``path,class``, or of ``class`` alone in row order, or a file with an array of labels; it
            overrides other labels.
        paths: lists of the rows' paths, in row order; numbers or classes in a list are used as labels.
        what: name of the features, for messages.
    Raises:
        InputError: lists of another length, labels that are not classes, or labels that contradict each other or the
            class folders in the paths.
    """
    count = len(rows.features)
    listed = [row for file in paths for row in _read_listed_rows(file)]
    where = join_names(paths) if paths else what
    if paths and len(listed) != count:
        raise InputError(where, expected=f"{count} paths, one a row of {what}", got=len(listed))
    names = row_names([row.path for row in listed] if paths else rows.paths or (), where)
    notes: list[str] = []
    if labels is not None and labels.suffix.lower() in ARRAY_READERS:
        ids, notes = _labels_from_array(read_label_array(labels), classes, f"{labels}")
        if len(ids) != count:
            raise InputError(f"{labels}", expected=f"{count} labels, one a row of {what}", got=len(ids))
    elif labels is not None:
        names, ids, notes = _labels_from_csv(labels, read_row_labels(labels), names, count, classes, what)
        ids = np.array(ids, np.int64)
    else:
        in_list = any(row.label for row in listed)
        in_file = rows.labels
        if in_file is None and not in_list:
            in_file, notes = choose_labels(rows.columns, classes, what)
        unlabelled = np.full(count, NO_LABEL, np.int64)
        file_ids, file_notes = (unlabelled, []) if in_file is None else _labels_from_array(in_file, classes, what)
        ids, notes = file_ids, [*notes, *file_notes]
        if in_list:
            ids, notes = _labels_from_list(paths[0], listed, classes)
            if rows.labels is not None and (ids != file_ids).any():
                row = int(np.argmax(ids != file_ids))
                expected, got = (_describe_label(values[row], classes) for values in (file_ids, ids))
                raise InputError(f"{where}: row {row} (counted from 0)", expected=f"{expected}, as {what}", got=got)
    _check_class_folders(names, ids, classes, what)
    row_numbers = (f"{row:0{len(str(count - 1))}d}" for row in range(count))
    return LabelledRows(names or tuple(row_numbers), ids, tuple(notes))


def _labels_from_list(file: Path, listed: list[ManifestRow], classes: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Return the labels in a list of paths, by class name or by number, and notes."""
    given = {row.label for row in listed} - {""}
    by_name = given <= match_class_names(given, classes).keys()
    ids, notes = (
        labels_from_names(file, listed, classes, NO_LABEL) if by_name else labels_from_numbers(file, listed, classes)
    )
    return np.array(ids, np.int64), notes


def _read_listed_rows(file: Path) -> list[ManifestRow]:
    if file.suffix.lower() in ARRAY_READERS:
        return [ManifestRow(path, "") for path in read_paths(file)]
    return read_row_paths(file)


def _labels_from_csv(
    file: Path, given: list[ManifestRow], names: tuple[str, ...], count: int, classes: Sequence[str], what: str
) -> tuple[tuple[str, ...], list[int], list[str]]:
    """Return names, label ids and notes of the rows from a CSV: by path if both have paths, else in row order."""
    ids, notes = labels_from_names(file, given, classes, NO_LABEL)
    by_path = {row.path: label for row, label in zip(given, ids, strict=True) if row.path}
    if names and by_path:
        if missing := [name for name in names if name not in by_path]:
            raise InputError(
                f"{file} has no row for {len(missing)} of {count} paths: {join_names(map(short_repr, missing), 3)}"
            )
        return names, [by_path[name] for name in names], notes
    if len(ids) != count:
        raise InputError(f"{file}", expected=f"{count} labels, one a row of {what}", got=len(ids))
    return names or tuple(row.path for row in given if row.path), ids, notes


def _labels_from_array(labels: np.ndarray, classes: Sequence[str], what: str) -> tuple[np.ndarray, list[str]]:
    """Return labels of a file as ids, and notes. Raises InputError for unknown names or numbers."""
    if labels.dtype.kind in "UO":
        rows = [ManifestRow("", str(name)) for name in labels.tolist()]
        ids, notes = labels_from_names(Path(what), rows, classes, NO_LABEL)
        return np.array(ids, np.int64), notes
    if labels.dtype.kind == "f" and (labels == np.round(labels)).all():
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iu":
        raise InputError(f"{what}: labels", expected="whole numbers or class names", got=labels.dtype)
    if len(beyond := labels[(labels < NO_LABEL) | (labels >= len(classes))]):
        expected = f"0 to {len(classes) - 1}, or -1 for none"
        raise InputError(f"{what}: labels", expected=expected, got=join_names(sorted(set(beyond.tolist())), 5))
    return labels.astype(np.int64), []


def _check_class_folders(names: Sequence[str], labels: np.ndarray, classes: Sequence[str], what: str) -> None:
    """Raise InputError if a path is in the folder of one class and has the label of another."""
    class_names = set(classes)
    for row, (name, label) in enumerate(zip(names, labels.tolist(), strict=False)):
        folder = PurePosixPath(name).parent.name
        if label != NO_LABEL and folder in class_names and classes[label] != folder:
            raise InputError(
                f"{what}: row {row} (counted from 0), {short_repr(name)}",
                expected=f"the label of {folder!r}",
                got=_describe_label(label, classes),
                todo="Its labels follow another class order, or its rows another order than the paths",
            )


def _describe_label(label: int, classes: Sequence[str]) -> str:
    return "no label" if label == NO_LABEL else f"{label}, {classes[label]!r}"
