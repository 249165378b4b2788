"""Result of a method on a pair of labelled features, and the CSV file from which ``bench methods`` continues."""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np

from unimos_pipe.base.atomic_io import write_text
from unimos_pipe.base.errors import InputError, ReadError, join_names
from unimos_pipe.base.safe_open import read_text
from unimos_pipe.bench.feature_pairs import LabelledPair
from unimos_pipe.runs.run_spec import RESULTS_VERSION

REMEDY = "Give another file, or remove this one"


@dataclass(frozen=True)
class MethodResult:
    """A method on a variant of a pair. Accuracies, estimates and ECE are fractions; None where nothing is estimated.

    ``regret`` is the distance to the best of the methods measured, by target labels, selectors left out where there are
    others; negative for a selector that is better than all. ``ece`` is that of raw probabilities, ``ece_matched`` after
    the temperature that matches the estimate; where there is none, auto's matches stacked fusion's.
    """

    dataset: str
    variant: str
    pair: str
    method: str
    source_rows: int
    target_rows: int
    accuracy: float
    regret: float
    gain: float  # over zero-shot
    estimate: float | None
    low: float | None
    high: float | None
    ece: float
    ece_matched: float | None
    seconds: float


_TYPES = {
    field.name: str if field.type is str else int if field.type is int else float for field in fields(MethodResult)
}
_COLUMNS = ["version", "inputs", *_TYPES]


def hash_inputs(pair: LabelledPair) -> str:
    """Return 16 hex digits of a pair's names, features and labels: the key of its results."""
    digest = hashlib.sha256(repr((pair.dataset, pair.variant, pair.name)).encode())
    for rows in (pair.source, pair.target):
        for values in (rows.features, rows.labels, rows.text):
            digest.update(repr((values.shape, values.dtype.str)).encode())
            digest.update(np.ascontiguousarray(values))
    return digest.hexdigest()[:16]


def read_results(path: Path, inputs: Sequence[str], methods: Sequence[str]) -> dict[str, list[MethodResult]]:
    """Return the results of finished pairs by :func:`hash_inputs`; none if there is no file.

    Args:
        path: a file of :func:`write_results`.
        inputs: of the pairs that are to be measured.
        methods: that are to be measured, in order.
    Raises:
        InputError: a file of another form or version, or of other pairs or methods.
    """
    results: dict[str, list[MethodResult]] = {}
    for number, line in enumerate(_read_lines(path), 2):
        version, key, *cells = line
        if version != str(RESULTS_VERSION):
            raise InputError(f"{path}: version of the results", expected=RESULTS_VERSION, got=version, todo=REMEDY)
        if key not in inputs:
            got = ", ".join(cells[:3])
            raise InputError(f"{path}, line {number}", expected="a pair of this command", got=got, todo=REMEDY)
        results.setdefault(key, []).append(_parse_row(path, number, cells))
    for rows in results.values():
        measured = join_names(row.method for row in rows)
        if measured != join_names(methods):
            raise InputError(f"{path}: methods", expected=join_names(methods), got=measured, todo=REMEDY)
    return results


def _read_lines(path: Path) -> list[list[str]]:
    """Return the lines below the header; none if there is no file."""
    try:
        lines = list(csv.reader(io.StringIO(read_text(path), newline="")))
    except ReadError as error:
        if error.absent:
            return []
        raise
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is no CSV file: {error}", todo=REMEDY) from None
    header = lines[0] if lines else []
    if header != _COLUMNS:
        raise InputError(f"{path}: columns", expected=",".join(_COLUMNS), got=",".join(header) or "none", todo=REMEDY)
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(_COLUMNS):
            raise InputError(f"{path}, line {number}: cells", expected=len(_COLUMNS), got=len(line), todo=REMEDY)
    return lines[1:]


def write_results(path: Path, results: Mapping[str, Sequence[MethodResult]]) -> None:
    """Write the results of pairs by :func:`hash_inputs`, atomically."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows((RESULTS_VERSION, key, *astuple(row)) for key, rows in results.items() for row in rows)
    write_text(path, file.getvalue())


def _parse_row(path: Path, number: int, cells: Sequence[str]) -> MethodResult:
    try:
        values = {
            name: None if cell == "" and kind is float else kind(cell)
            for (name, kind), cell in zip(_TYPES.items(), cells, strict=True)
        }
    except ValueError as error:
        raise InputError(f"{path}, line {number}: {error}", todo=REMEDY) from None
    return MethodResult(**values)
