"""Domains of one's own: folders of images with labels from class folders, from a CSV, or without labels."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unimos_pipe.base.errors import Argument, Call, InputError, Text, join_names
from unimos_pipe.data.build_manifest import file_size, find_non_utf8_names, loose_images_note, unlisted_images
from unimos_pipe.data.doubtful_folders import check_class_folders, class_folder
from unimos_pipe.data.find_images import find_images, skipped_summary
from unimos_pipe.data.row_lists import ManifestRow, read_csv


@dataclass(frozen=True)
class CustomDomain:
    """The folder of a domain's images and the source of its labels: ``folders``, ``none`` or the name of a CSV file."""

    name: str
    folder: Path
    labels: str

    @classmethod
    def parse(cls, text: str) -> "CustomDomain":
        """Parse ``NAME=DIR[:folders|none|FILE.csv]``. Raises InputError on another form or a missing folder."""
        name, equals, location = text.partition("=")
        folder, colon, labels = location.rpartition(":")
        if not colon or not (labels in ("folders", "none") or labels.lower().endswith((".csv", ".tsv"))):
            folder, labels = location, "folders"
        if not name or not equals or not folder:
            raise InputError(
                (Argument("domains"), f" {text}"), expected="NAME=DIR:folders, NAME=DIR:none or NAME=DIR:FILE.csv"
            )
        if not Path(folder).expanduser().is_dir():
            raise InputError((Argument("domains"), f" {text}: no folder {folder}"), todo=_way_round(folder))
        return cls(name, Path(folder).expanduser(), labels)

    def label_files(self) -> list[Path]:
        """Return the possible paths of a CSV of labels: in the folder, then as given; empty without a CSV."""
        return [] if self.labels in ("folders", "none") else [self.folder / self.labels, Path(self.labels)]


def _way_round(place: str) -> Text | None:
    """Return how images of another place become a folder, or None."""
    if re.match("[a-z0-9]+:/", place):
        return "Images are read from files of this machine: download or mount them first"
    if place.lower().endswith((".tar", ".tgz", ".tar.gz", ".parquet", ".arrow")):
        return "Unpack it to a folder first: ", Call("unpack_images", {"sources": [place], "out": "DIR"})
    if place.lower().endswith((".zip", ".7z", ".rar")):
        return "Unpack the archive to a folder, and name the folder"
    return None


@dataclass(frozen=True)
class ScannedDomain:
    """A domain to write: its rows, with paths relative to ``root``.

    ``labels`` is the source of the labels as :class:`CustomDomain` has it, ``search`` the folders in the root that hold
    the images (empty: the root), ``listed_only`` that no folder is searched.
    """

    name: str
    root: Path
    rows: list[ManifestRow]
    labels: str = "none"
    search: tuple[str, ...] = ()
    listed_only: bool = False
    notes: tuple[str, ...] = ()


def scan_domain(
    parts: Sequence[CustomDomain],
    keep_folders: Sequence[str] = (),
    skip_folders: Sequence[str] = (),
    *,
    allow_outside: bool = False,
) -> ScannedDomain:
    """Read the folders of one domain; several are put together, with paths relative to the folder above them.

    Args:
        keep_folders, skip_folders, allow_outside: as :func:`read_domain_rows` has them.
    Raises:
        InputError: folders of one domain with labels from different sources, and what :func:`read_domain_rows` raises.
    """
    name, labels = parts[0].name, parts[0].labels
    if len({part.labels for part in parts}) > 1:
        raise InputError(
            (Argument("domains"), f": the folders of {name} take their labels from different sources"),
            expected="one of folders, none or a CSV for all",
            got=join_names(part.labels for part in parts),
        )
    read = [(part.folder, *read_domain_rows(part, keep_folders, skip_folders, allow_outside)) for part in parts]
    notes = tuple(note for _, _, part_notes in read for note in part_notes)
    folders = [folder.absolute() for folder, _, _ in read]
    outside = [Path(row.path).parent for _, rows, _ in read for row in rows if row.path.startswith("/")]
    if len(parts) == 1 and not outside:
        return ScannedDomain(name, read[0][0], read[0][1], labels, notes=notes)
    root = Path(os.path.commonpath([*folders, *outside]))
    rows = [
        ManifestRow((folder.absolute() / row.path).relative_to(root).as_posix(), row.label)
        for folder, part_rows, _ in read
        for row in part_rows
    ]
    if repeated := [path for path, count in Counter(row.path for row in rows).items() if count > 1]:
        raise InputError(f"domain {name}: images listed twice, in {root}: {join_names(repeated, 3)}")
    search = tuple(folder.relative_to(root).as_posix() for folder in folders)
    return ScannedDomain(name, root, rows, labels, search, notes=notes)


def read_domain_rows(
    domain: CustomDomain,
    keep_folders: Sequence[str] = (),
    skip_folders: Sequence[str] = (),
    allow_outside: bool = False,
) -> tuple[list[ManifestRow], list[str]]:
    """Return the domain's images, sorted, with class names ('' = none), and notes about skipped files.

    Args:
        keep_folders, skip_folders: class folders that are classes, or are left out, though they look otherwise
            (:func:`unimos_pipe.data.doubtful_folders.check_class_folders`).
        allow_outside: whether the CSV may list images outside the folder, by their absolute paths.
    Raises:
        InputError: no image, images without a label in the CSV (or the other way round), names that are not UTF-8,
            folders that may be no classes and are not named.
    """
    scan = find_images(domain.folder)
    notes = [skipped_summary(domain.folder, scan.skipped)]
    if domain.labels == "none":
        rows = [ManifestRow(path, "") for path in scan.paths]
    elif domain.labels == "folders":
        rows = [ManifestRow(path, folder) for path in scan.paths if (folder := class_folder(path))]
        check_class_folders(domain.name, domain.folder, rows, (*keep_folders, *skip_folders))
        rows = [row for row in rows if row.label not in skip_folders]
        notes.append(loose_images_note(domain.folder, scan.paths))
        if not rows and scan.paths:
            raise InputError(
                f"domain {domain.name}: {domain.folder} holds images but no class folders",
                expected="<class>/<image>",
                todo=f"Say {domain.name}={domain.folder}:none if they have no labels, or name a CSV file instead",
            )
    else:
        in_folder, as_given = domain.label_files()
        rows = read_csv(in_folder if in_folder.exists() else as_given, domain.folder, allow_outside=True)
        rows = [ManifestRow(row.path, row.label.strip()) for row in rows]
        outside = [row.path for row in rows if row.path.startswith("/")]
        if outside and not allow_outside:
            raise InputError(
                f"{domain.labels}: {len(outside)} image(s) outside of {domain.folder}: {join_names(outside, 3)}",
                todo=("If this is meant, add ", Argument("allow_outside", True)),
            )
        if unlisted_paths := unlisted_images(scan.paths, [row.path for row in rows]):
            names = join_names(unlisted_paths, 3)
            notes.append(f"{domain.folder}: {len(unlisted_paths)} image(s) that {domain.labels} does not list: {names}")
    kept_notes = [note for note in notes if note]
    if not rows:
        raise InputError("; ".join([f"domain {domain.name}: no images in {domain.folder}", *kept_notes]))
    if bad := find_non_utf8_names([row.path for row in rows]):
        raise InputError(f"{domain.folder}: file names that are not UTF-8: {join_names(bad, 3)}; rename them")
    missing = [row.path for row in rows if file_size(domain.folder / row.path) is None]
    if missing:
        raise InputError(
            f"domain {domain.name}: {len(missing)} image(s) missing in {domain.folder}, broken links, or no "
            f"files: {join_names(missing, 5)}"
        )
    return rows, kept_notes
