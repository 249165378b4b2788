"""The label file of a domain: the CSV of paths and classes that a spec names, read and changed cell by cell.

An empty class is still to be labelled; :data:`UNKNOWN_CLASS` is an image of none of the classes.
"""

import codecs
import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unimos_pipe.base.atomic_io import atomic_write
from unimos_pipe.base.csv_escaping import escape_name
from unimos_pipe.base.errors import InputError, join_names, short_repr, suggestions
from unimos_pipe.base.locks import writer_lock
from unimos_pipe.base.safe_open import MAX_TEXT_BYTES, read_bytes
from unimos_pipe.data.dataset_spec import DatasetSpec
from unimos_pipe.data.manifest import UNKNOWN_CLASS
from unimos_pipe.data.row_lists import CsvColumns, detect_separator, find_columns, read_csv, row_path


@dataclass(frozen=True)
class LabelFile:
    """The CSV of a domain's labels.

    ``folder`` is the images' folder, which absolute paths are relative to; None if the spec has no root.
    """

    path: Path
    classes: tuple[str, ...]
    folder: Path | None = None

    def read(self) -> dict[str, str]:
        """Return the class of each image by path, in the order of the file; '' = still to be labelled.

        Raises:
            InputError: the file cannot be read.
        """
        return {row.path: row.label.strip() for row in read_csv(self.path, self.folder)}

    def set(self, labels: Mapping[str, str]) -> dict[str, str]:
        """Change the classes of images; the file is replaced at once, and synced to disk.

        All else stays: the order, other columns, line ends, the separator and a byte order mark. A file without a
        column of classes gets one. Changes of several processes are made one after the other.

        Args:
            labels: the new class by path: a class of the data set, :data:`UNKNOWN_CLASS`, or ''.
        Returns:
            The classes before, by path; passing them to this function undoes the change.
        Raises:
            InputError: a class or path that the data set does not have, or a file that cannot be read.
        """
        known = (*self.classes, UNKNOWN_CLASS, "")
        if unknown := [label for label in labels.values() if label not in known]:
            raise InputError(f"no class {short_repr(unknown[0])}; {suggestions(unknown[0], self.classes)}")
        target = self.path.resolve()  # a link stays one
        with writer_lock(target, wait=True):
            before = self.read()
            if missing := [path for path in labels if path not in before]:
                raise InputError(f"{self.path} does not list {join_names(map(short_repr, missing), 3)}")
            changes = {path: label for path, label in labels.items() if before[path] != label}
            if changes:
                content = read_bytes(target, MAX_TEXT_BYTES)
                mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
                text = _replace_labels(self.path, content.decode("utf-8-sig"), changes, self.folder)
                with atomic_write(target) as part:
                    part.write_bytes(mark + text.encode())
        return {path: before[path] for path in labels}


def label_file(spec: DatasetSpec, domain: str) -> LabelFile:
    """Return the label file of a domain.

    Raises:
        InputError: an unknown domain, or one whose labels are not in a CSV.
    """
    entry = spec.domain(domain)
    if not entry.manifest:
        raise InputError(
            f"domain {domain} of {spec.name} has no CSV of labels",
            expected=f"a line such as manifest = {spec.name + '.' + domain + '.csv'!r} in its spec",
            todo="Scan the images, which writes both",
        )
    return LabelFile(spec.base / entry.manifest, spec.classes, spec.base / entry.root if entry.root else None)


def _replace_labels(file: Path, text: str, changes: Mapping[str, str], folder: Path | None) -> str:
    """Return the text of a CSV with other classes; rows without a change keep their bytes."""
    separator = detect_separator(text)
    records = _split_records(text, separator)
    filled = [(number, cells) for number, (_, cells) in enumerate(records) if any(cell.strip() for cell in cells)]
    columns = find_columns(file, filled) or CsvColumns(0, 1, 2, head=False)
    head = filled[0][0] if columns.head else None
    label_at = len(records[head][1]) if columns.label is None else columns.label
    adds_column = columns.label is None
    new_cells = {path: escape_name(label) for path, label in changes.items()}
    for number, cells in filled:
        if number == head:
            cell = "class" if adds_column else None
        else:
            cell = new_cells.get(row_path(cells[columns.path], folder), "" if adds_column else None)
        if cell is not None:
            padded = cells + [""] * (label_at + 1 - len(cells))
            padded[label_at] = cell
            records[number] = _format_record(padded, separator, records[number][0]), padded
    return "".join(record for record, _ in records)


def _split_records(text: str, separator: str) -> list[tuple[str, list[str]]]:
    """Return the text and the cells of each record of a CSV; quoted cells may span lines."""
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(lines, delimiter=separator, strict=True)
    records, start = [], 0
    for cells in reader:
        records.append(("".join(lines[start : reader.line_num]), cells))
        start = reader.line_num
    return records


def _format_record(cells: list[str], separator: str, before: str) -> str:
    """Return cells as a record with the line end of the record before."""
    line = io.StringIO()
    csv.writer(line, delimiter=separator, lineterminator="\n").writerow(cells)
    return line.getvalue()[:-1] + before[len(before.rstrip("\r\n")) :]
