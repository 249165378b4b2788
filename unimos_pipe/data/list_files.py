"""Rows of a domain as text files give them: published list files (``<path> <label>``) and CSV manifests."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from unimos_pipe.base.csv_escaping import name_from_cell, name_to_cell, path_from_cell, path_to_cell
from unimos_pipe.base.errors import UserError, listing, shown
from unimos_pipe.base.safe_open import read_text

PATH_HEADS = ("path", "file", "filename", "file_name", "image", "image_path")
CLASS_HEADS = ("class", "label", "category", "class_name")


@dataclass(frozen=True)
class ListedRow:
    """One image: POSIX path relative to the domain's root, and what the file says its class is ('' = nothing)."""

    path: str
    label: str


def read_list(file: Path) -> list[ListedRow]:
    """Read a published list file, ``<path> <label>`` a line; the path may hold spaces, empty lines are skipped.

    Raises:
        UserError: not readable as UTF-8, or lines of another form, unsafe or repeated paths (line numbers given).
    """
    rows, faults = [], []
    for number, line in enumerate(io.StringIO(text_of(file), newline=None), 1):
        if line.strip():
            parts = line.rsplit(maxsplit=1)
            rows.append(ListedRow(parts[0], parts[-1]))
            if len(parts) < 2 or not re.fullmatch("[0-9]{1,9}", parts[1]):
                faults.append(f"line {number}: expected '<path> <label>', got {shown(line.rstrip())}")
    _refuse(file, faults + _path_faults(rows))
    return rows


def read_csv(file: Path) -> list[ListedRow]:
    """Read a CSV of path and class; cells are separated by comma, semicolon or tab, and a class may be empty.

    A head line names the columns (:data:`PATH_HEADS`, :data:`CLASS_HEADS`; others are passed over); without one the
    path comes first. What :mod:`unimos_pipe.base.csv_escaping` put before a path or class is taken off.

    Raises:
        UserError: not readable as UTF-8, no CSV, a head without the columns, rows of another length (line numbers
            given), unsafe or repeated paths.
    """
    text = text_of(file)
    table, faults = _cells(text, separator(text))
    path_at, class_at, width, least = 0, 1, 2, 1
    if table and (columns := _columns(file, table)):
        path_at, class_at, width = columns
        least = 1 + max(path_at, class_at or 0)
        table = table[1:]
    rows = []
    for line, cells in table:
        path, label = (cells[at] if at is not None and at < len(cells) else "" for at in (path_at, class_at))
        rows.append(ListedRow(path_from_cell(path), name_from_cell(label)))
        if len(cells) < least or any(cells[width:]):
            faults.append(f"line {line}: expected {width} cells, got {len(cells)}: {shown(cells)}")
        elif not path:
            faults.append(f"line {line}: no path")
    _refuse(file, faults or _path_faults(rows))
    return rows


def csv_text(rows: Sequence[ListedRow]) -> str:
    """Rows as a CSV that :func:`read_csv` reads back as they are."""
    text = io.StringIO()
    writer = csv.writer(text)  # lines end in CR LF, so that either is quoted in a name
    writer.writerow(["path", "class"])
    writer.writerows((path_to_cell(row.path), name_to_cell(row.label)) for row in rows)
    return text.getvalue()


def separator(text: str) -> str:
    """What stands between the cells: what makes known column names of the head, else what the first line has most of.

    Names of one's own files may hold any of the three, so quoted cells do not count.
    """
    first = next((line for line in io.StringIO(text, newline=None) if line.strip()), "")
    heads = {sep: set(_head(next(csv.reader([first], delimiter=sep), []))) for sep in ",;\t"}
    known = {*PATH_HEADS, *CLASS_HEADS}
    bare = re.sub('"[^"]*"', "", first)
    return max(heads, key=lambda sep: (len(heads[sep] & known), bare.count(sep)))


def _head(cells: Sequence[str]) -> list[str]:
    return [cell.strip().lower() for cell in cells]


def _cells(text: str, separator: str) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """The rows that are not empty, each with its (last) line number; and what ends the reading, if anything does."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    table = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                table.append((reader.line_num, cells))
    except csv.Error as error:
        return table, [f"line {reader.line_num}: {error}"]
    return table, []


def _columns(file: Path, table: Sequence[tuple[int, list[str]]]) -> tuple[int, int | None, int] | None:
    """Where a head puts path and class, and its length; None where the first row is no head.

    Raises:
        UserError: a head that lacks one of the two, or names one twice.
    """
    line, cells = table[0]
    head = _head(cells)
    path = next((name for name in PATH_HEADS if name in head), None)
    label = next((name for name in CLASS_HEADS if name in head), None)
    if path is None and label is None:
        looks_like_path = [any(mark in row[0] for mark in "./") for _, row in table]
        if looks_like_path[0] or not any(looks_like_path):
            return None
    where, got = f"list file {file}: line {line}", f"the columns {listing(map(shown, cells))}"
    if path is None:
        raise UserError(f"{where}: no column of paths", expected=f"one named {listing(PATH_HEADS)}", got=got)
    if label is None and len(head) > 1:
        raise UserError(
            f"{where}: no column of classes",
            expected=f"one named {listing(CLASS_HEADS)}",
            got=got,
            todo="Without labels, keep the column of paths alone",
        )
    if repeated := [name for name in (path, label) if head.count(name) > 1]:
        raise UserError(f"{where}: columns named twice: {listing(repeated)}")
    return head.index(path), None if label is None else head.index(label), len(head)


def text_of(file: Path) -> str:
    """The text of a list file. Raises UserError where it cannot be read as UTF-8."""
    try:
        return read_text(file)
    except UnicodeDecodeError as error:
        if error.object[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise UserError(f"list file {file}: is UTF-16; save it as UTF-8") from None
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"list file {file}: line {line} is not UTF-8") from None
    except OSError as error:
        raise UserError(f"list file {file}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # a name with a zero byte
        raise UserError(f"list file {file}: cannot be read: {error}") from None


def _path_faults(rows: Sequence[ListedRow]) -> list[str]:
    faults, seen = [], set()
    for row in rows:
        path = PurePosixPath(row.path)
        if path.is_absolute() or ".." in path.parts:
            faults.append(f"{shown(row.path)} leaves the images' folder")
        elif not path.parts or "\0" in row.path:
            faults.append(f"{shown(row.path)} is no path")
        elif path in seen:
            faults.append(f"{shown(row.path)} is listed twice")
        seen.add(path)
    return faults


def _refuse(file: Path, faults: list[str]) -> None:
    if faults:
        raise UserError(f"list file {file}: {listing(faults, 3)}")


def bind(file: Path, rows: Sequence[ListedRow], classes: Sequence[str]) -> tuple[list[int], list[str]]:
    """Label ids of a published list's rows, by the name of the class folder wherever the paths have one.

    Names bind, ids only where no path shows a class folder: lists of the same data set are known to number their
    classes differently.

    Returns:
        Label ids in the order of ``rows``, and notes where the list numbers the classes otherwise.
    Raises:
        UserError: class folders or ids that the classes lack, or an id that stands for two classes.
    """
    ids = {name: label for label, name in enumerate(classes)}
    folders = [PurePosixPath(row.path).parent.name for row in rows]
    said = {(int(row.label), name) for row, name in zip(rows, folders, strict=True)}
    names, labels = {name for _, name in said}, {label for label, _ in said}
    one_to_one = len(names) == len(labels) == len(said)
    unknown = sorted(names - set(ids))
    if len(unknown) == len(names) and not (one_to_one and len(names) > 1):  # no class folders in the paths
        if beyond := sorted(label for label in labels if label >= len(classes)):
            raise UserError(f"list file {file}: labels", expected=f"0 to {len(classes) - 1}", got=listing(beyond, 5))
        return [int(row.label) for row in rows], []
    if unknown:
        missing = [name for name in classes if name not in names]
        raise UserError(
            f"list file {file}: classes that the spec lacks: {listing(unknown)}; spec classes not in the list: "
            f"{listing(missing)}. Correct the class list in a spec of your own"
        )
    if not one_to_one:
        raise UserError(
            f"list file {file}: labels and class folders contradict each other",
            expected=f"one label for each of {len(names)} classes",
            got=f"{len(said)} different (label, class) pairs with {len(labels)} labels",
        )
    other = sorted(name for label, name in said if ids[name] != label)
    notes = [f"{file}: numbers {len(other)} classes otherwise than the spec ({listing(other, 3)}); bound by name"]
    return [ids[name] for name in folders], notes if other else []


def bind_names(file: Path, rows: Sequence[ListedRow], classes: Sequence[str], no_label: int) -> list[int]:
    """Label ids of a CSV's rows by class name, or by that without the spaces around it; an empty one is ``no_label``.

    Raises:
        UserError: names that the spec lacks.
    """
    ids = {name: label for label, name in enumerate(classes)} | {"": no_label}
    names = [row.label if row.label in ids else row.label.strip() for row in rows]
    if unknown := sorted({name for name in names if name not in ids}):
        raise UserError(
            f"{file}: classes that the spec lacks, so that no prompt names them: {listing(unknown)}. "
            "Add them to the spec's class list, or take their rows out"
        )
    return [ids[name] for name in names]
