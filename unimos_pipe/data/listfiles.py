"""Rows of a domain as text files give them: published list files (``<path> <label>``) and CSV manifests."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from unimos_pipe.base.errors import UserError, listing

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
    for number, line in enumerate(_text(file).splitlines(), 1):
        if line.strip():
            parts = line.rsplit(maxsplit=1)
            rows.append(ListedRow(parts[0], parts[-1]))
            if len(parts) < 2 or not parts[1].isdecimal():
                faults.append(f"line {number}: expected '<path> <label>', got {line!r}")
    _refuse(file, faults + _path_faults(rows))
    return rows


def read_csv(file: Path) -> list[ListedRow]:
    """Read a CSV of path and class, comma, semicolon or tab; a head line may name the columns, a class may be empty.

    Raises:
        UserError: not readable as UTF-8, unsafe or repeated paths.
    """
    lines = _text(file).splitlines()
    first = lines[0] if lines else ""
    separator = max(",;\t", key=first.count)
    table = [cells for cells in csv.reader(lines, delimiter=separator) if any(cell.strip() for cell in cells)]
    head = [cell.strip().lower() for cell in table[0]] if table else []
    path_at = next((head.index(name) for name in PATH_HEADS if name in head), None)
    class_at = next((head.index(name) for name in CLASS_HEADS if name in head), None)
    if path_at is None:
        path_at, class_at = 0, 1
    else:
        table = table[1:]
    rows = [
        ListedRow(cells[path_at], cells[class_at].strip() if class_at is not None and class_at < len(cells) else "")
        for cells in table
        if path_at < len(cells)
    ]
    _refuse(file, _path_faults(rows))
    return rows


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"list file {file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"list file {file}: line {line} is not UTF-8") from None


def _path_faults(rows: Sequence[ListedRow]) -> list[str]:
    faults, seen = [], set()
    for row in rows:
        path = PurePosixPath(row.path)
        if not row.path or path.is_absolute() or ".." in path.parts or "\0" in row.path:
            faults.append(f"{row.path!r} leaves the images' folder")
        elif path in seen:
            faults.append(f"{row.path!r} is listed twice")
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
    """Label ids of a CSV's rows by class name; an empty name is ``no_label``. Raises UserError on unknown names."""
    ids = {name: label for label, name in enumerate(classes)} | {"": no_label}
    if unknown := sorted({row.label for row in rows if row.label not in ids}):
        raise UserError(
            f"{file}: classes that the spec lacks, so that no prompt names them: {listing(unknown)}. "
            "Add them to the spec's class list, or take their rows out"
        )
    return [ids[row.label] for row in rows]
