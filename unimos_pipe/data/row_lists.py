"""Labels and paths of rows whose features were made elsewhere: lists in the order of the rows, or by path."""

import csv
import io
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from unimos_pipe.base.csv_escaping import unescape_name
from unimos_pipe.base.errors import InputError, join_names, short_repr
from unimos_pipe.data.list_files import CLASS_HEADS, PATH_HEADS, ManifestRow, read_csv, read_list_text, separator


def read_row_labels(file: Path) -> list[ManifestRow]:
    """Read ``path,class``, or ``class`` alone in row order: rows without a path then.

    Raises:
        InputError: no CSV of such columns, or nothing but empty classes.
    """
    text = read_list_text(file)
    try:
        table = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator(text)))
    except csv.Error as error:
        raise InputError(f"list file {file}: {error}") from None
    head = [cell.strip().lower() for cell in table[0]] if table else []
    if set(head) & set(CLASS_HEADS) and not set(head) & set(PATH_HEADS):
        at = next(head.index(name) for name in CLASS_HEADS if name in head)
        rows = [ManifestRow("", unescape_name(cells[at])) for cells in table[1:] if len(cells) > at]
    else:
        rows = read_csv(file)
    if not any(row.label for row in rows):
        raise InputError(f"{file} has no classes", expected="a head line path,class, or class alone")
    return rows


def read_row_paths(file: Path) -> list[ManifestRow]:
    """Read a CSV of ``path,class``, a list file of ``<path> <number>``, or a path a line; without labels where none is.

    Raises:
        InputError: not readable as UTF-8, or no CSV.
    """
    if file.suffix.lower() in (".csv", ".tsv"):
        return read_csv(file)
    lines = [line.strip() for line in read_list_text(file).splitlines() if line.strip()]
    listed = [re.fullmatch(r"(.+?)\s+([0-9]{1,9})", line) for line in lines]
    if lines and all(listed):
        return [ManifestRow(found[1], found[2]) for found in listed]
    return [ManifestRow(line, "") for line in lines]


def row_names(paths: Sequence[str], what: str) -> tuple[str, ...]:
    """Paths as names of rows: absolute ones relative to the folder that all share.

    Raises:
        InputError: paths named twice, empty ones, or ones with ``..`` in them.
    """
    names = list(paths)
    if names and all(PurePosixPath(name).is_absolute() for name in names):
        folder = posixpath.commonpath([posixpath.dirname(name) for name in names])
        names = [posixpath.relpath(name, folder) for name in names]
    for fault, bad in (
        ("that stand twice", [name for name, count in Counter(names).items() if count > 1]),
        ("that lead out of a folder, or nowhere", [name for name in names if not _is_inside(name)]),
    ):
        if bad:
            raise InputError(f"{what}: {len(bad)} path(s) {fault}: {join_names(map(short_repr, bad), 3)}")
    return tuple(names)


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and not set("\0\\") & set(name)
