"""Changes of a CSV of paths and classes: cells and rows change, all other bytes stay."""

import codecs
import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unimos_pipe.base.atomic_io import atomic_write
from unimos_pipe.base.csv_escaping import escape_name, escape_path, unescape_name
from unimos_pipe.base.errors import InputError
from unimos_pipe.base.safe_open import MAX_TEXT_BYTES, read_bytes
from unimos_pipe.data.row_lists import CsvColumns, ManifestRow, detect_separator, find_columns, read_csv, row_path


@dataclass(frozen=True)
class CsvText:
    """The text of a CSV in records, each with its cells; empty lines are records, too."""

    mark: bytes  # byte order mark, or empty
    separator: str
    records: tuple[tuple[str, tuple[str, ...]], ...]
    columns: CsvColumns
    folder: Path | None  # the images' folder, which absolute paths are relative to

    @classmethod
    def read(cls, file: Path, folder: Path | None = None) -> "CsvText":
        """Read a file. Raises what :func:`unimos_pipe.data.row_lists.read_csv` raises for a file that is no CSV."""
        content = read_bytes(file, MAX_TEXT_BYTES)
        mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
        try:
            text = content.decode("utf-8-sig")
            separator = detect_separator(text)
            records = _split_records(text, separator)
        except (UnicodeDecodeError, csv.Error) as error:
            read_csv(file, folder)  # says what is wrong, and where
            raise InputError(f"{file}: {error}") from None
        filled = [(number, list(cells)) for number, (_, cells) in enumerate(records) if any(map(str.strip, cells))]
        columns = (find_columns(file, filled) if filled else None) or CsvColumns(0, 1, 2, head=False)
        return cls(mark, separator, records, columns, folder)

    def write(self, file: Path) -> None:
        """Replace a file atomically."""
        with atomic_write(file) as part:
            part.write_bytes(self.mark + "".join(record for record, _ in self.records).encode())

    def rows(self) -> list[ManifestRow]:
        """Return the rows in order."""
        filled = [cells for _, cells in self.records if any(map(str.strip, cells))]
        return [self._row(cells) for cells in filled[self.columns.head :]]

    def edit(self, change: Callable[[ManifestRow], ManifestRow | None], new_rows: tuple[ManifestRow, ...] = ()):
        """Return the text with other rows. A column of classes is added if a class needs it.

        Args:
            change: returns the new row of a row; the same keeps its bytes, None removes it.
            new_rows: appended in order.
        """
        text = self if self.columns.label is not None else self._with_labels()
        head_pending, records = text.columns.head, []
        for record, cells in text.records:
            if head_pending or not any(map(str.strip, cells)):
                head_pending = head_pending and not any(map(str.strip, cells))
                records.append((record, cells))
                continue
            row = text._row(cells)
            new_row = change(row)
            if new_row == row:
                records.append((record, cells))
            elif new_row is not None:
                records.append(text._record(text._cells(new_row, cells, row), _line_end(record)))
        if new_rows:
            line_end = _line_end(text.records[0][0]) if text.records else "\r\n"
            if records and not _line_end(records[-1][0]):
                records[-1] = records[-1][0] + line_end, records[-1][1]
            records += [text._record(text._cells(row, (), None), line_end) for row in new_rows]
        return CsvText(text.mark, text.separator, tuple(records), text.columns, text.folder)

    def move_first(self, paths: Sequence[str]) -> "CsvText":
        """Return the text with the rows of some paths after its head, in this order; every row keeps its bytes."""
        line_end = next((end for record, _ in self.records if (end := _line_end(record))), "\n")
        records = [(record if _line_end(record) else record + line_end, cells) for record, cells in self.records]
        filled = [number for number, (_, cells) in enumerate(records) if any(map(str.strip, cells))]
        start = filled.pop(0) + 1 if self.columns.head else 0
        row_of = {self._row(records[number][1]).path: number for number in filled}
        moved = dict.fromkeys(row_of[path] for path in paths)
        rest = [number for number in range(start, len(records)) if number not in moved]
        ordered = tuple(records[number] for number in (*range(start), *moved, *rest))
        return CsvText(self.mark, self.separator, ordered, self.columns, self.folder)

    def _with_labels(self) -> "CsvText":
        """Return the text with an empty column of classes at the end."""
        width, records, head_pending = self.columns.width, [], self.columns.head
        for record, cells in self.records:
            if any(map(str.strip, cells)):
                padded = (*cells, *[""] * (width - len(cells)), "class" if head_pending else "")
                head_pending = False
                records.append(self._record(padded, _line_end(record)))
            else:
                records.append((record, cells))
        columns = CsvColumns(self.columns.path, width, width + 1, self.columns.head)
        return CsvText(self.mark, self.separator, tuple(records), columns, self.folder)

    def _row(self, cells: tuple[str, ...]) -> ManifestRow:
        label_at = self.columns.label
        label = cells[label_at] if label_at is not None and label_at < len(cells) else ""
        return ManifestRow(row_path(cells[self.columns.path], self.folder), unescape_name(label).strip())

    def _cells(self, row: ManifestRow, cells: tuple[str, ...], before: ManifestRow | None) -> tuple[str, ...]:
        """Return the cells of a row; those of other columns are kept."""
        path_at, label_at = self.columns.path, self.columns.label
        padded = [*cells, *[""] * (1 + max(path_at, label_at, self.columns.width - 1 if not cells else 0) - len(cells))]
        if before is None or row.path != before.path:
            padded[path_at] = escape_path(row.path)
        if before is None or row.label != before.label:
            padded[label_at] = escape_name(row.label)
        return tuple(padded)

    def _record(self, cells: tuple[str, ...], line_end: str) -> tuple[str, tuple[str, ...]]:
        line = io.StringIO()
        csv.writer(line, delimiter=self.separator, lineterminator="\n").writerow(cells)
        return line.getvalue()[:-1] + line_end, cells


def _line_end(record: str) -> str:
    return record[len(record.rstrip("\r\n")) :]


def _split_records(text: str, separator: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the text and the cells of each record of a CSV; quoted cells may span lines."""
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(lines, delimiter=separator, strict=True)
    records, start = [], 0
    for cells in reader:
        records.append(("".join(lines[start : reader.line_num]), tuple(cells)))
        start = reader.line_num
    return tuple(records)
