"""The label file of a domain: the CSV of paths and classes that a spec names, read and changed cell by cell.

An empty class is still to be labelled; :data:`UNKNOWN_CLASS` is an image of none of the classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unimos_pipe.base.errors import InputError, join_names, short_repr, suggestions
from unimos_pipe.base.locks import writer_lock
from unimos_pipe.data.class_names import match_class_names
from unimos_pipe.data.csv_edit import CsvText
from unimos_pipe.data.dataset_spec import DatasetSpec
from unimos_pipe.data.manifest import UNKNOWN_CLASS
from unimos_pipe.data.row_lists import ManifestRow, read_csv


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

        A class in another spelling is the class (:func:`unimos_pipe.data.class_names.match_class_names`).

        Raises:
            InputError: the file cannot be read.
        """
        labels = {row.path: row.label.strip() for row in read_csv(self.path, self.folder)}
        matches = match_class_names(labels.values(), self.classes)
        return {path: matches.get(label, label) for path, label in labels.items()}

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
            before: dict[str, str] = {}

            def relabel(row: ManifestRow) -> ManifestRow:
                before[row.path] = row.label
                return replace(row, label=labels[row.path]) if row.path in labels else row

            text = CsvText.read(target, self.folder).edit(relabel)
            if missing := [path for path in labels if path not in before]:
                raise InputError(f"{self.path} does not list {join_names(map(short_repr, missing), 3)}")
            if any(before[path] != label for path, label in labels.items()):
                text.write(target)
        return {path: before[path] for path in labels}

    def move_first(self, paths: Sequence[str]) -> None:
        """Move the rows of images to the beginning, in this order; the other rows keep theirs, and every row its cells.

        Raises:
            InputError: a path that the file does not list, or a file that cannot be read.
        """
        target = self.path.resolve()
        with writer_lock(target, wait=True):
            listed = self.read()
            if missing := [path for path in paths if path not in listed]:
                raise InputError(f"{self.path} does not list {join_names(map(short_repr, missing), 3)}")
            CsvText.read(target, self.folder).move_first(paths).write(target)


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
