"""Reading of rows from text files: list files, CSV manifests, and labels or paths of imported rows."""

import csv
import io
import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from unimos_pipe.base.csv_escaping import escape_name, escape_path, unescape_name, unescape_path
from unimos_pipe.base.errors import InputError, ReadError, join_names, short_repr
from unimos_pipe.base.safe_open import read_text

PATH_COLUMNS = ("path", "file", "filename", "file_name", "image", "image_path")
CLASS_COLUMNS = ("class", "label", "category", "class_name")


@dataclass(frozen=True)
class ManifestRow:
    """One image: POSIX path relative to the domain's root, and the label text of the file ('' = none)."""

    path: str
    label: str


@dataclass(frozen=True)
class CsvColumns:
    """The columns of a CSV: indices of path and class (None = no such column), and the number of columns."""

    path: int
    label: int | None
    width: int
    head: bool  # True if a head line names them


def read_list(file: Path, folder: Path | None = None) -> list[ManifestRow]:
    """Read a list file with ``<path> <label>`` per line. Paths may hold spaces; empty lines are ignored.

    Args:
        folder: the images' folder; absolute paths in it become relative to it.
    Raises:
        InputError: not readable as UTF-8, or lines of another form, unsafe or repeated paths (line numbers given).
    """
    rows, faults = [], []
    for number, line in enumerate(io.StringIO(read_list_text(file), newline=None), 1):
        if line.strip():
            parts = line.rsplit(maxsplit=1)
            rows.append(ManifestRow(_relative_path(parts[0], folder), parts[-1]))
            if len(parts) < 2 or not re.fullmatch("[0-9]{1,9}", parts[1]):
                faults.append(f"line {number}: expected '<path> <label>', got {short_repr(line.rstrip())}")
    _raise_faults(file, faults + _check_paths(rows))
    return rows


def read_csv(file: Path, folder: Path | None = None, *, allow_outside: bool = False) -> list[ManifestRow]:
    """Read a CSV of path and class; cells are separated by comma, semicolon or tab, and a class may be empty.

    A head line names the columns (:data:`PATH_COLUMNS`, :data:`CLASS_COLUMNS`; others are ignored); without one the
    path is the first column. Escapes of :mod:`unimos_pipe.base.csv_escaping` are removed.

    Args:
        folder: the images' folder; absolute paths in it become relative to it.
        allow_outside: whether absolute paths elsewhere are allowed, which stay absolute.
    Raises:
        InputError: not readable as UTF-8, no CSV, a head without the columns, rows of another length (line numbers
            given), unsafe or repeated paths.
    """
    text = read_list_text(file)
    if text[:4].lower() == "sep=":
        note = short_repr(text.splitlines()[0])
        raise InputError(f"list file {file}: line 1 is {note}, a note for Excel", todo="Delete this line")
    table, faults = _parse_cells(text, detect_separator(text))
    columns, min_cells = CsvColumns(0, 1, 2, head=False), 1
    if table and (head := find_columns(file, table)):
        columns, min_cells = head, 1 + max(head.path, head.label or 0)
        table = table[1:]
    rows = []
    for line, cells in table:
        path, label = (cells[at] if at is not None and at < len(cells) else "" for at in (columns.path, columns.label))
        rows.append(ManifestRow(row_path(path, folder), unescape_name(label)))
        if len(cells) < min_cells or any(cells[columns.width :]):
            faults.append(f"line {line}: expected {columns.width} cells, got {len(cells)}: {short_repr(cells)}")
        elif not path:
            faults.append(f"line {line}: no path")
    _raise_faults(file, faults or _check_paths(rows, allow_outside))
    return rows


def csv_text(rows: Sequence[ManifestRow]) -> str:
    """Return rows as CSV text; :func:`read_csv` reads the same rows back."""
    text = io.StringIO()
    writer = csv.writer(text)  # line ends are CR LF, so CR and LF in names are quoted
    writer.writerow(["path", "class"])
    writer.writerows((escape_path(row.path), escape_name(row.label)) for row in rows)
    return text.getvalue()


def detect_separator(text: str) -> str:
    """Return the cell separator: the one that yields known column names, else the most frequent in the first line.

    File names may contain any separator, so quoted cells are not counted.
    """
    first = next((line for line in io.StringIO(text, newline=None) if line.strip()), "")
    heads = {sep: set(_column_names(next(csv.reader([first], delimiter=sep), []))) for sep in ",;\t"}
    usual_names = {*PATH_COLUMNS, *CLASS_COLUMNS}
    bare = re.sub('"[^"]*"', "", first)
    return max(heads, key=lambda sep: (len(heads[sep] & usual_names), bare.count(sep)))


def _column_names(cells: Sequence[str]) -> list[str]:
    return [cell.strip().lower() for cell in cells]


def _parse_cells(text: str, delimiter: str) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """Return the non-empty rows, each with its (last) line number, and a list with the CSV error, if any."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    table = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                table.append((reader.line_num, cells))
    except csv.Error as error:
        return table, [f"line {reader.line_num}: {error}"]
    return table, []


def find_columns(file: Path, table: Sequence[tuple[int, list[str]]]) -> CsvColumns | None:
    """Return the columns that the first row of a CSV names; None if it is not a head.

    Args:
        table: the (line number, cells) of each row.
    Raises:
        InputError: a head that lacks one of the two, or names one twice.
    """
    line, cells = table[0]
    head = _column_names(cells)
    path = next((name for name in PATH_COLUMNS if name in head), None)
    label = next((name for name in CLASS_COLUMNS if name in head), None)
    if path is None and label is None:
        looks_like_path = [any(mark in row[0] for mark in "./") for _, row in table]
        if looks_like_path[0] or not any(looks_like_path):
            return None
    where, got = f"list file {file}: line {line}", f"the columns {join_names(map(short_repr, cells))}"
    if path is None:
        similar = next((cell for cell in cells if re.search("path|file|image", cell.lower())), None)
        raise InputError(
            f"{where}: no column of paths",
            expected=f"one named {join_names(PATH_COLUMNS)}",
            got=got,
            todo=similar and f"Rename the column {short_repr(similar)} to 'path'",
        )
    if label is None and len(head) > 1:
        raise InputError(
            f"{where}: no column of classes",
            expected=f"one named {join_names(CLASS_COLUMNS)}",
            got=got,
            todo="Without labels, keep the column of paths alone",
        )
    if repeated := [name for name in (path, label) if head.count(name) > 1]:
        raise InputError(f"{where}: columns named twice: {join_names(repeated)}")
    return CsvColumns(head.index(path), None if label is None else head.index(label), len(head), head=True)


def read_list_text(file: Path) -> str:
    """Return the text of a list file. Raises InputError if it is not UTF-8."""
    try:
        return read_text(file)
    except UnicodeDecodeError as error:
        if error.object[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise InputError(f"list file {file}: is UTF-16; save it as UTF-8") from None
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"list file {file}: line {line} is not UTF-8") from None
    except ReadError as error:
        raise error.of_input(f"list file {file}: cannot be read: {error.reason}") from None
    except ValueError as error:  # a name with a null byte
        raise InputError(f"list file {file}: cannot be read: {error}") from None


def _check_paths(rows: Sequence[ManifestRow], allow_outside: bool = False) -> list[str]:
    faults, seen = [], set()
    for row in rows:
        path = PurePosixPath(row.path)
        if (path.is_absolute() and not allow_outside) or ".." in path.parts:
            faults.append(f"{short_repr(row.path)} leaves the images' folder")
        elif not path.parts or "\0" in row.path:
            faults.append(f"{short_repr(row.path)} is no path")
        elif path in seen:
            faults.append(f"{short_repr(row.path)} is listed twice")
        seen.add(path)
    return faults


def row_path(cell: str, folder: Path | None) -> str:
    """Return the path of a CSV's cell: unescaped, and relative to the images' folder if it is absolute and in it."""
    return _relative_path(unescape_path(cell), folder)


def _relative_path(path: str, folder: Path | None) -> str:
    """Return an absolute path in a folder relative to it, and any other path as it is."""
    if folder is None or not path.startswith("/"):
        return path
    for root in (folder.absolute(), folder.resolve()):
        if PurePosixPath(path).is_relative_to(root.as_posix()):
            return PurePosixPath(path).relative_to(root.as_posix()).as_posix()
    return path


def path_form_hint(paths: Sequence[str], folder: Path) -> str | None:
    """Return what to change in paths that lead to no file as they are: separators or a leading folder."""
    path = paths[0]
    if "\\" in path and (folder / path.replace("\\", "/")).is_file():
        return f"Separate folders by /: {path.replace(chr(92), '/')}"
    prefix, _, rest = path.replace("\\", "/").partition("/")
    if rest and (folder / rest).is_file():
        return f"The paths are relative to {folder}: take {short_repr(prefix + '/')} off, as in {rest}"
    return None


def _raise_faults(file: Path, faults: list[str]) -> None:
    if faults:
        raise InputError(f"list file {file}: {join_names(faults, 3)}")


def read_row_labels(file: Path) -> list[ManifestRow]:
    """Read a CSV of ``path,class``, or of ``class`` alone in row order, with empty paths.

    Raises:
        InputError: no such columns, or all classes are empty.
    """
    text = read_list_text(file)
    try:
        table = list(csv.reader(io.StringIO(text, newline=""), delimiter=detect_separator(text)))
    except csv.Error as error:
        raise InputError(f"list file {file}: {error}") from None
    head = [cell.strip().lower() for cell in table[0]] if table else []
    if set(head) & set(CLASS_COLUMNS) and not set(head) & set(PATH_COLUMNS):
        at = next(head.index(name) for name in CLASS_COLUMNS if name in head)
        rows = [ManifestRow("", unescape_name(cells[at])) for cells in table[1:] if len(cells) > at]
    else:
        rows = read_csv(file)
    if not any(row.label for row in rows):
        raise InputError(f"{file} has no classes", expected="a head line path,class, or class alone")
    return rows


def read_row_paths(file: Path) -> list[ManifestRow]:
    """Read a CSV of ``path,class``, a list file of ``<path> <number>``, or one path per line.

    Raises:
        InputError: not readable as UTF-8, or no CSV.
    """
    if file.suffix.lower() in (".csv", ".tsv"):
        return read_csv(file)
    lines = [line.strip() for line in read_list_text(file).splitlines() if line.strip()]
    matches = [re.fullmatch(r"(.+?)\s+([0-9]{1,9})", line) for line in lines]
    if lines and all(matches):
        return [ManifestRow(match[1], match[2]) for match in matches]
    return [ManifestRow(line, "") for line in lines]


def row_names(paths: Sequence[str], what: str) -> tuple[str, ...]:
    """Return paths as names of rows; absolute paths become relative to their common folder.

    Raises:
        InputError: repeated or empty paths, or paths with ``..``.
    """
    names = list(paths)
    if names and all(PurePosixPath(name).is_absolute() for name in names):
        folder = posixpath.commonpath([posixpath.dirname(name) for name in names])
        names = [posixpath.relpath(name, folder) for name in names]
    for fault, bad in (
        ("that occur twice", [name for name, count in Counter(names).items() if count > 1]),
        ("that are empty or leave the folder", [name for name in names if not _is_inside(name)]),
    ):
        if bad:
            raise InputError(f"{what}: {len(bad)} path(s) {fault}: {join_names(map(short_repr, bad), 3)}")
    return tuple(names)


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and not set("\0\\") & set(name)
