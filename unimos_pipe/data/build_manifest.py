"""Manifests of domains from a spec and a data root: find folders, read folders or lists, check counts."""

import hashlib
import os
import stat
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from unimos_pipe.base.atomic_io import atomic_replace_dir
from unimos_pipe.base.errors import Argument, InputError, ReadError, join_names
from unimos_pipe.base.locks import writer_lock
from unimos_pipe.base.safe_open import reading
from unimos_pipe.data.class_names import match_class_names, spelling_notes
from unimos_pipe.data.dataset_spec import PACKAGE, DatasetSpec
from unimos_pipe.data.domain_folders import find_domain_folder, find_list, list_class_folders
from unimos_pipe.data.expected_layout import expected_layout
from unimos_pipe.data.find_images import find_domain_images, find_images, skipped_summary
from unimos_pipe.data.label_ids import labels_from_names, labels_from_numbers
from unimos_pipe.data.manifest import NO_LABEL, Manifest
from unimos_pipe.data.row_lists import (
    ManifestRow,
    path_form_hint,
    read_csv,
    read_list,
)


def find_root(spec: DatasetSpec, root: Path | None, cache: Path) -> Path:
    """Return the root of a data set's images: the given root, the spec's own, or embedded images unpacked to the cache.

    Raises:
        InputError: the folder is missing or was not given; the message shows the expected layout.
    """
    if root is None and spec.embedded:
        return unpack_embedded(spec.embedded, cache)
    if root is None and all(domain.root for domain in spec.domains.values()):
        return spec.base
    if root is None or not root.is_dir():
        raise InputError(
            f"the images of {spec.name} are missing",
            expected=expected_layout(spec),
            got="no folder and no UNIMOS_DATA_ROOT" if root is None else f"no folder {root}",
            todo=(
                f"Get them from {spec.source or 'their owner'} and pass ",
                Argument("root"),
                ", or set UNIMOS_DATA_ROOT",
            ),
        )
    return root


def unpack_embedded(archive: str, cache: Path) -> Path:
    """Unpack an embedded archive into the cache if needed, and return its folder.

    An existing folder is reused only if every file has the recorded size.
    """
    source = PACKAGE / "data" / "embedded" / archive
    with zipfile.ZipFile(source) as bundle:
        members = bundle.infolist()
        stamp = hashlib.sha256(repr([(m.filename, m.file_size, m.CRC) for m in members]).encode()).hexdigest()[:8]
        target = cache / "embedded" / f"{source.stem}-{stamp}"
        if _is_unpacked(target, members):
            return target
        with writer_lock(target, lock=target.with_name(".unpacking.lock"), wait=True):
            if not _is_unpacked(target, members):  # another process may have unpacked it meanwhile
                with atomic_replace_dir(target) as folder:
                    bundle.extractall(folder)
    return target


def _is_unpacked(folder: Path, members: list[zipfile.ZipInfo]) -> bool:
    return all(file_size(folder / member.filename) == member.file_size for member in members)


def file_size(path: Path) -> int | None:
    """Return the size of a regular file in bytes, or None if it is missing, a folder or a broken link.

    Raises ReadError if the file cannot be examined.
    """
    try:
        with reading(path):
            status = path.stat()
    except ValueError:  # a zero byte
        return None
    except ReadError as error:
        if not error.lasting:
            raise
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


@dataclass
class RowList:
    """Rows of a domain before files are checked."""

    paths: list[str]
    labels: list[int]
    notes: list[str] = field(default_factory=list)


def build_manifest(spec: DatasetSpec, part: str, root: Path, *, skip_missing: bool = False) -> Manifest:
    """Return the manifest of a domain or split, rows in the order of the list file, or sorted.

    Args:
        part: one of :meth:`DatasetSpec.parts`.
        skip_missing: leave out listed images that are missing, with a note, unless all are.
    Raises:
        InputError: no domain folder, classes that the spec does not know, missing images, broken links, or
            names that are not UTF-8.
    """
    folder = find_domain_folder(spec, spec.domain_of(part), root)
    rows = read_part(spec, part, folder)
    entry = spec.domain(spec.domain_of(part))
    if entry.manifest:
        images = find_domain_images(folder, entry.search, listed_only=entry.listed_only)
        extra = unlisted_images(images.paths, rows.paths)
        note = f"{folder}: {len(extra)} image(s) that the CSV does not list: {join_names(extra, 3)}" if extra else None
        rows.notes += _drop_none(note, skipped_summary(folder, images.skipped))
    return _build_manifest(spec, part, folder, rows, skip_missing)


def unlisted_images(paths: Sequence[str], listed: Sequence[str]) -> list[str]:
    """Return images in a folder that are not among the listed paths."""
    listed_paths = {PurePosixPath(path).as_posix() for path in listed}
    return [path for path in paths if path not in listed_paths]


def read_part(spec: DatasetSpec, part: str, folder: Path) -> RowList:
    """Return the rows of a part from its list or folders; files are not checked."""
    entry = spec.domain(spec.domain_of(part))
    if entry.has_splits:
        return _read_list_rows(spec, find_list(folder, getattr(entry, part.partition(".")[2])), folder)
    if entry.list and (file := find_list(folder, entry.list)):
        return _read_list_rows(spec, file, folder)
    if entry.manifest:
        rows = read_csv(spec.base / entry.manifest, folder)
        labels, notes = labels_from_names(spec.base / entry.manifest, rows, spec.classes, NO_LABEL)
        return RowList([row.path for row in rows], labels, notes)
    if entry.labels == "none":
        images = find_images(folder)
        return RowList(
            list(images.paths), [NO_LABEL] * len(images.paths), _drop_none(skipped_summary(folder, images.skipped))
        )
    return _read_class_folders(spec, folder)


def _read_list_rows(spec: DatasetSpec, file: Path, folder: Path) -> RowList:
    rows: list[ManifestRow] = read_list(file, folder)
    labels, notes = labels_from_numbers(file, rows, spec.classes)
    return RowList([row.path for row in rows], labels, notes)


def _read_class_folders(spec: DatasetSpec, folder: Path) -> RowList:
    ids = {name: label for label, name in enumerate(spec.classes)}
    images = find_images(folder)
    class_names = list_class_folders(folder)
    matches = match_class_names(class_names, spec.classes)
    if unknown := [name for name in class_names if name not in matches]:
        missing = [name for name in spec.classes if name not in matches.values()]
        raise InputError(
            f"the class folders in {folder} do not fit {spec.name}: unknown {join_names(unknown)}; "
            f"without a folder: {join_names(missing)}. Correct the folders or the spec's class list"
        )
    paths = [path for path in images.paths if "/" in path]
    labels = [ids[matches[path.partition("/")[0]]] for path in paths]
    notes = _drop_none(loose_images_note(folder, images.paths), skipped_summary(folder, images.skipped))
    return RowList(paths, labels, spelling_notes(str(folder), matches) + notes)


def _drop_none(*notes: str | None) -> list[str]:
    return [note for note in notes if note]


def loose_images_note(folder: Path, paths: Sequence[str]) -> str | None:
    """Return a line about images outside the class folders, or None."""
    if loose := [path for path in paths if "/" not in path]:
        return f"{folder}: {len(loose)} image(s) outside the class folders are ignored: {join_names(loose, 3)}"
    return None


def _build_manifest(spec: DatasetSpec, part: str, folder: Path, rows: RowList, skip_missing: bool) -> Manifest:
    if not rows.paths:
        raise InputError(
            f"no images of {part} in {folder}",
            expected=expected_layout(spec),
            got="; ".join(["no image file", *rows.notes]),
        )
    if bad := find_non_utf8_names(rows.paths):
        raise InputError(f"{folder}: file names that are not UTF-8: {join_names(bad, 3)}; rename them")
    sizes = [file_size(folder / path) for path in rows.paths]
    notes = list(rows.notes)
    if missing := [path for path, size in zip(rows.paths, sizes, strict=True) if size is None]:
        what = (
            f"{len(missing)} of {len(sizes)} images of {part} are missing, broken links, or no files, in "
            f"{folder}: {join_names(missing, 5)}"
        )
        if not skip_missing or len(missing) == len(sizes):
            todo = path_form_hint(missing, folder) or "Restore them, or take them out of the list"
            raise InputError(what, todo=todo)
        notes.append(f"{what}; they are left out. An update of the data set takes them off its list")
    kept = [row for row, size in enumerate(sizes) if size is not None]
    return Manifest(
        spec.cache_name,
        part,
        spec.classes,
        folder,
        tuple(rows.paths[row] for row in kept),
        np.array([rows.labels[row] for row in kept], np.int64),
        np.array([sizes[row] for row in kept], np.int64),
        tuple(notes),
    )


def find_non_utf8_names(names: list[str]) -> list[bytes]:
    """Return the names that are not valid UTF-8, as bytes."""
    return [os.fsencode(name) for name in names if any("\udc80" <= char <= "\udcff" for char in name)]


def count_warning(spec: DatasetSpec, manifest: Manifest) -> str | None:
    """Return a line about the difference from the published counts, in total and by class; None if there is none.

    Without published counts by class, the line has the range of counts and the empty classes.
    """
    return compare_counts(spec, manifest.domain, manifest.labels.tolist())


def compare_counts(spec: DatasetSpec, part: str, labels: Sequence[int]) -> str | None:
    """Return :func:`count_warning`'s line for the labels of a part's rows."""
    name, _, split = part.partition(".")
    entry, rows = spec.domain(name), len(labels)
    expected = getattr(entry, f"{split}_images") if split else entry.images
    counts = Counter(spec.classes[label] for label in labels if label != NO_LABEL)
    differing = [
        (key, counts[key], count) for key, count in entry.per_class.items() if counts[key] != count and not split
    ]
    if (not expected or expected == rows) and not differing:
        return None
    gap = rows - expected
    total = f"{rows} images, {abs(gap)} {'fewer' if gap < 0 else 'more'} than the expected {expected}"
    head = f"{spec.name}/{part}: {total if expected and gap else f'{rows} images'}"
    if differing:
        return f"{head}; per class: " + join_names((f"{key} {have} of {want}" for key, have, want in differing), 12)
    if not counts:
        return head
    ordered = sorted(counts.items(), key=lambda item: item[1])
    (low, fewest), (high, most) = ordered[0], ordered[-1]
    empty = [key for key in spec.classes if key not in counts]
    return f"{head}; per class: {fewest} ({low}) to {most} ({high}); empty: {join_names(empty, 12)}"
