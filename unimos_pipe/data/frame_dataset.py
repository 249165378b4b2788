"""Data sets from tables of a program, such as pandas DataFrames: a row for each image."""

import json
import math
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import xxhash

from unimos_pipe.base.errors import InputError, join_names, short_repr, suggestions
from unimos_pipe.data.build_manifest import file_size
from unimos_pipe.data.class_spellings import bind_spellings
from unimos_pipe.data.custom_dataset import write_scanned
from unimos_pipe.data.custom_domain import ScannedDomain
from unimos_pipe.data.dataset_spec import is_valid_name
from unimos_pipe.data.row_lists import ManifestRow


class Frame(Protocol):
    """A table with named columns, such as a pandas or polars DataFrame."""

    @property
    def columns(self) -> Any:
        """Names of the columns."""

    def __getitem__(self, key: Any) -> Any:
        """Return the values of a column."""


def is_frame(value: object) -> TypeGuard[Frame]:
    """Return True for a table with named columns, such as a pandas or polars DataFrame."""
    return hasattr(value, "columns") and hasattr(value, "__getitem__")


def write_frame_dataset(
    frame: Frame,
    folder: Path,
    *,
    path: str = "path",
    label: str | None = None,
    domain: str | None = None,
    name: str = "frame",
    encoder: str = "RN50",
) -> Path:
    """Write the spec, CSVs and record of a table's images and return the spec's file, ``<folder>/<key>/<name>.toml``.

    Equal tables have one key. Spellings of one class are bound as
    :func:`unimos_pipe.data.class_spellings.bind_spellings` does; a Python warning names each.

    Args:
        frame: a table with named columns, such as a pandas DataFrame.
        path: column of image files, absolute or relative to the working folder; they may be anywhere.
        label: column of class names; missing values are images without a label. None: the column ``label``, if any.
        domain: column of domain names; None: the column ``domain``, else one domain of the data set's name.
        name: of the data set.
    Raises:
        InputError: columns that the table lacks, values of other types, files that are missing or listed twice in a
            domain, no labelled image, a labelled domain that shares no class with another.
    """
    columns = [str(column) for column in frame.columns]
    chosen = {"path": path, "label": _optional(label, "label", columns), "domain": _optional(domain, "domain", columns)}
    for parameter, column in chosen.items():
        if column is not None and column not in columns:
            raise InputError(f"{parameter}: no column {short_repr(column)}; {suggestions(column, columns)}")
    paths = [_text(value, path) for value in list(frame[path])]
    labels = _texts(frame, chosen["label"], len(paths), "")
    domains = _texts(frame, chosen["domain"], len(paths), name)
    if wrong := sorted({text for text in domains if not is_valid_name(text)}):
        raise InputError(
            f"domains {join_names(map(short_repr, wrong), 3)}", expected="letters, digits, '-' and '_' only"
        )
    if not paths or not all(paths):
        raise InputError(f"column {path}: {paths.count('') or 'all'} rows without a path")
    rows: dict[str, list[tuple[Path, str]]] = {text: [] for text in domains}
    for file, text, row_domain in zip(paths, labels, domains, strict=True):
        rows[row_domain].append((Path(os.path.abspath(Path(file).expanduser())), text))  # noqa: PTH100 - keeps links
    asked: list[str] = []
    scanned, notes = bind_spellings(
        [_scan_rows(row_domain, part) for row_domain, part in rows.items()], (), asked.append
    )
    for note in (*notes, *(f"{fault}; they are two classes" for fault in asked)):
        warnings.warn(note, stacklevel=3)
    key = xxhash.xxh3_64_hexdigest(json.dumps([paths, labels, domains]).encode())
    out = folder / key / f"{name}.toml"
    write_scanned(out, name, encoder, scanned)
    return out


def _optional(column: str | None, usual: str, columns: Sequence[str]) -> str | None:
    return column if column is not None else usual if usual in columns else None


def _texts(frame: Frame, column: str | None, count: int, default: str) -> list[str]:
    return [default] * count if column is None else [_text(value, column) for value in list(frame[column])]


def _text(value: object, column: str) -> str:
    """Return a cell as text; a missing value is empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or str(value) == "<NA>":
        return ""
    if isinstance(value, str | os.PathLike):
        return os.fspath(value).strip()
    if isinstance(value, int) or hasattr(value, "__index__"):
        return str(value)
    raise InputError(f"column {column}", expected="texts or whole numbers", got=short_repr(value))


def _scan_rows(domain: str, rows: Sequence[tuple[Path, str]]) -> ScannedDomain:
    """Return a domain of files anywhere, with paths relative to the folder above all of them."""
    root = Path(os.path.commonpath([file.parent for file, _ in rows]))
    listed = [ManifestRow(file.relative_to(root).as_posix(), label) for file, label in rows]
    if repeated := [path for path, count in Counter(row.path for row in listed).items() if count > 1]:
        raise InputError(f"domain {domain}: images listed twice: {join_names(repeated, 3)}")
    if missing := [row.path for row in listed if file_size(root / row.path) is None]:
        raise InputError(
            f"domain {domain}: {len(missing)} image(s) missing in {root}, broken links, or no files: "
            f"{join_names(missing, 5)}"
        )
    return ScannedDomain(domain, root, listed, "none", listed_only=True)
