"""Update of a data set of one's own: its spec and CSVs take in new, moved, changed and deleted images.

Labels, class order, wordings, comments and other columns are kept.
"""

import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomlkit

from unimos_pipe.base.atomic_io import write_text
from unimos_pipe.base.errors import InputError, ReadError, join_names, suggestions
from unimos_pipe.base.locks import writer_lock
from unimos_pipe.base.safe_open import MAX_SETTINGS_BYTES, read_text
from unimos_pipe.data.build_manifest import file_size
from unimos_pipe.data.class_names import class_of_new_name, match_class_names, spelling_notes
from unimos_pipe.data.csv_edit import CsvText
from unimos_pipe.data.custom_domain import CustomDomain
from unimos_pipe.data.dataset_spec import DatasetSpec, load_spec
from unimos_pipe.data.doubtful_folders import check_class_folders, check_named_folders, class_folder
from unimos_pipe.data.file_digests import UNREAD, FileRecord
from unimos_pipe.data.find_images import find_domain_images
from unimos_pipe.data.manifest import UNKNOWN_CLASS
from unimos_pipe.data.match_images import ImageMatches, match_images
from unimos_pipe.data.row_lists import ManifestRow, read_csv
from unimos_pipe.data.scan_record import ScanRecord, read_image_records, read_record, record_path, write_record


@dataclass(frozen=True)
class DomainUpdate:
    """Changes of a domain's rows.

    ``moved`` has (old path, new path), ``relabelled`` (path, old class, new class) where an image was moved to another
    class folder, ``changed`` the images of new contents, whose labels are kept, ``removed`` the rows without an image.
    """

    domain: str
    images: int
    added: tuple[str, ...]
    moved: tuple[tuple[str, str], ...]
    relabelled: tuple[tuple[str, str, str], ...]
    changed: tuple[str, ...]
    removed: tuple[ManifestRow, ...]
    labelled: int  # rows with a label

    @property
    def is_empty(self) -> bool:
        """True if no row changes."""
        return not (self.added or self.moved or self.relabelled or self.changed or self.removed)


@dataclass(frozen=True)
class DatasetUpdate:
    """Result of :func:`update_dataset`; ``backup`` is None if no file changed."""

    file: Path
    domains: tuple[DomainUpdate, ...]
    new_classes: tuple[str, ...]
    empty_classes: tuple[str, ...]  # without an image in any domain
    backup: Path | None
    notes: tuple[str, ...] = ()  # about class names of another spelling, and labels that are no classes


@dataclass(frozen=True)
class _DomainPlan:
    """A domain's file, its new text, the records of its images, typed labels of deleted images, and its changes."""

    file: Path
    text: CsvText
    images: Mapping[str, FileRecord]
    rows: tuple[ManifestRow, ...]
    kept_labels: Mapping[bytes, str]
    update: DomainUpdate
    notes: tuple[str, ...]


def update_dataset(file: Path, *, keep_folders: Sequence[str] = (), skip_folders: Sequence[str] = ()) -> DatasetUpdate:
    """Update a spec and the CSVs that it names; the old ones are copied to ``<stem>.backup/<time>`` first.

    Args:
        keep_folders, skip_folders: new class folders that are classes, or are left out, though they look otherwise.
    Raises:
        InputError: a spec that cannot be read or has no CSV, labels that are no classes, a folder that is missing or
            without images, folders that may be no classes and are not named, class names of unclear spelling.
    """
    spec, record = load_spec(str(file)), read_record(file)
    names = [name for name, entry in spec.domains.items() if entry.manifest and entry.root]
    if not names:
        raise InputError(f"{file} has no domain with a root and a CSV of images; nothing can be updated")
    folders = [spec.base / spec.domain(name).root for name in names]
    check_named_folders([folder for folder in folders if folder.is_dir()], (*keep_folders, *skip_folders))
    skipped = tuple(dict.fromkeys((*record.skip_folders, *skip_folders)))
    targets = [file, *(spec.base / spec.domain(name).manifest for name in names)]
    with contextlib.ExitStack() as locks:
        for target in targets:  # each by itself: labels may be set meanwhile
            locks.enter_context(writer_lock(target.resolve(), wait=True))
        plans: dict[str, _DomainPlan] = {}
        used = {*keep_folders}
        for name in names:  # one after the other, so that a new class has one spelling in all domains
            plans[name] = _plan_domain(spec, name, record, keep_folders, skipped, _further(used, spec.classes))
            used |= {row.label for row in plans[name].rows}
        rows = [row for plan in plans.values() for row in plan.rows]
        new_classes = _further(used, spec.classes)
        counts = Counter(row.label for row in rows)
        empty = tuple(name for name in (*spec.classes, *new_classes) if not counts[name])
        updates = tuple(plan.update for plan in plans.values())
        unedited, backup = [path for path in targets if record.is_unedited(path)], None
        if new_classes or any(not update.is_empty for update in updates):
            backup = _back_up(file, [*targets, record_path(file)])
            write_text(
                file.resolve(), _edit_spec(file, new_classes, {name: len(plan.rows) for name, plan in plans.items()})
            )
            for plan in plans.values():
                plan.text.write(plan.file.resolve())
        images = {**record.images, **{name: plan.images for name, plan in plans.items()}}
        kept = {**record.kept_labels, **{name: plan.kept_labels for name, plan in plans.items()}}
        write_record(file, replace(record, skip_folders=skipped, images=images, kept_labels=kept), unedited)
    notes = tuple(note for plan in plans.values() for note in plan.notes)
    return DatasetUpdate(file, updates, new_classes, empty, backup, notes)


def _further(labels: Iterable[str], classes: Sequence[str]) -> tuple[str, ...]:
    """Return the labels that are no classes yet."""
    return tuple(sorted({*labels} - {"", UNKNOWN_CLASS, *classes}))


def _plan_domain(
    spec: DatasetSpec,
    name: str,
    record: ScanRecord,
    keep_folders: Sequence[str],
    skip_folders: Sequence[str],
    new_classes: Sequence[str],
) -> _DomainPlan:
    entry = spec.domain(name)
    folder, file = spec.base / entry.root, spec.base / entry.manifest
    if not folder.is_dir():
        raise InputError(f"domain {name} of {spec.name}: no folder {folder}; correct its root in the spec")
    old_rows = {row.path: replace(row, label=row.label.strip()) for row in read_csv(file, folder)}
    known = {*spec.classes, "", UNKNOWN_CLASS}
    spelled = match_class_names((row.label for row in old_rows.values()), spec.classes)
    notes = spelling_notes(str(file), spelled)
    old_rows = {path: replace(row, label=spelled.get(row.label, row.label)) for path, row in old_rows.items()}
    if wrong := sorted({row.label for row in old_rows.values()} - known):
        raise InputError(
            f"{file}: labels that are no classes of {spec.name}: {join_names(wrong)}; "
            f"{suggestions(wrong, spec.classes)}. Correct them, or add them to the end of the spec's classes"
        )
    search = entry.search
    labels = record.labels.get(name) or _guess_labels(old_rows.values(), search)
    image_paths = find_domain_images(folder, search, listed_only=entry.listed_only).paths
    paths = [path for path in image_paths if labels != "folders" or class_folder(path, search)]
    if labels == "folders":
        for part in search or (".",):
            prefix = "" if part == "." else f"{part}/"
            inside = [ManifestRow(path, class_folder(path, search)) for path in paths if path.startswith(prefix)]
            check_class_folders(name, folder / part, inside, (*spec.classes, *keep_folders, *skip_folders))
        paths = [path for path in paths if class_folder(path, search) not in skip_folders]
    searched = {*image_paths}
    others = [path for path in old_rows if path not in searched and file_size(folder / path) is not None]
    paths += others  # listed, but outside of the folders searched, or of an unknown kind
    if not paths:
        raise InputError(f"domain {name} of {spec.name}: no images in {folder}; the files are left as they are")
    old_images = record.images.get(name, {})
    images = read_image_records(folder, paths, old_images)
    matches = match_images(
        {path: _known_digest(old_images.get(path)) for path in old_rows},
        {path: record.digest for path, record in images.items()},
    )
    if labels == "folders":
        classes = *spec.classes, *keep_folders, *new_classes
        label_of, label_notes = _folder_labels(classes, name, search, old_rows, matches, images)
    else:
        label_of, label_notes = _content_labels(spec, name, labels, old_rows, matches, images)
    kept = dict(record.kept_labels.get(name, {}))  # a deleted image may come back
    for path in matches.added:
        label = kept.get(images[path].digest, "")
        label_of[path] = label if label in known and label else label_of[path]
    for row in (old_rows[path] for path in matches.removed):
        digest = _known_digest(old_images.get(row.path))
        if digest and row.label and (labels != "folders" or row.label != class_folder(row.path, search)):
            kept[digest] = row.label
    plan = _plan_rows(name, file, folder, old_rows, matches, images, label_of, kept)
    return replace(plan, notes=(*notes, *label_notes))


def _known_digest(record: FileRecord | None) -> bytes | None:
    return record.digest if record and record.digest != UNREAD else None


def _guess_labels(rows: Iterable[ManifestRow], search: Sequence[str]) -> str:
    """Return the source of a domain's labels where no record tells it."""
    in_folders = all(row.label and row.label == class_folder(row.path, search) for row in rows)
    return "folders" if in_folders else "none"


def _folder_labels(
    classes: Sequence[str],
    name: str,
    search: Sequence[str],
    old_rows: Mapping[str, ManifestRow],
    matches: ImageMatches,
    images: Mapping[str, FileRecord],
) -> tuple[dict[str, str], list[str]]:
    """Return the class of each image by its folder, and notes; a label that differed from its folder's class is kept.

    A folder that is no class is a class's renamed folder if all its images have the class's label and the folder that
    they came from is empty now; else it is a class of another spelling, or a new one.
    """
    filled = {class_folder(path, search) for path in images}
    class_of = {folder: folder for folder in filled if folder in classes}
    spelled = {}
    for folder in sorted(filled - {*class_of}):
        inside = {new: old for new, old in matches.old_path.items() if class_folder(new, search) == folder}
        stayed = Counter(old_rows[old].label for old in inside.values() if class_folder(old, search) == folder)
        arrived = {old_rows[old].label for old in inside.values()}
        origins = {class_folder(old, search) for old in inside.values()}
        if stayed:
            class_of[folder] = stayed.most_common(1)[0][0]
        else:
            renamed = len(arrived) == 1 and not origins & filled
            present = {*class_of.values()}
            spelled[folder] = folder if renamed else class_of_new_name(folder, [*classes, *present], present, name)
            class_of[folder] = arrived.pop() if renamed else spelled[folder]
    label_of = {path: class_of[class_folder(path, search)] for path in images}
    for new, old in matches.old_path.items():
        label = old_rows[old].label
        if class_folder(new, search) == class_folder(old, search) or label != class_folder(old, search):
            label_of[new] = label
    return label_of, spelling_notes(f"domain {name}", spelled)


def _content_labels(
    spec: DatasetSpec,
    name: str,
    labels: str,
    old_rows: Mapping[str, ManifestRow],
    matches: ImageMatches,
    images: Mapping[str, FileRecord],
) -> tuple[dict[str, str], list[str]]:
    """Return the class of each image, that of its row, of an image of equal contents or of the CSV scanned, and notes.

    Of the CSV, labels that are no classes are left out with a note.
    """
    label_of = {new: old_rows[old].label for new, old in matches.old_path.items()}
    by_digest = {images[path].digest: label for path, label in label_of.items() if label}
    listed = _scanned_labels(spec, name, labels) if matches.added else {}
    listed = {path: listed[path] for path in matches.added if listed.get(path)}
    spelled = match_class_names(listed.values(), (*spec.classes, UNKNOWN_CLASS))
    for path in matches.added:
        label_of[path] = by_digest.get(images[path].digest, "") or spelled.get(listed.get(path, ""), "")
    no_classes = sorted({*listed.values()} - {*spelled})
    notes = [f"domain {name}: labels of new images that are no classes are left out: {join_names(no_classes)}"]
    return label_of, [*spelling_notes(f"domain {name}", spelled), *(notes if no_classes else [])]


def _scanned_labels(spec: DatasetSpec, name: str, labels: str) -> dict[str, str]:
    """Return the labels in the CSV that a scan read, by path; empty if there is none."""
    folder = spec.base / spec.domain(name).root
    for file in CustomDomain(name, folder, labels).label_files():
        if file.is_file():
            return {row.path: row.label.strip() for row in read_csv(file, folder)}
    return {}


def _plan_rows(
    name: str,
    file: Path,
    folder: Path,
    old_rows: Mapping[str, ManifestRow],
    matches: ImageMatches,
    images: Mapping[str, FileRecord],
    label_of: Mapping[str, str],
    kept_labels: Mapping[bytes, str],
) -> _DomainPlan:
    new_path = {old: new for new, old in matches.old_path.items()}

    def change(row: ManifestRow) -> ManifestRow | None:
        new = new_path.get(row.path)
        return None if new is None else ManifestRow(new, label_of[new])

    added = tuple(ManifestRow(path, label_of[path]) for path in matches.added)
    rows = tuple(ManifestRow(new, label_of[new]) for new in new_path.values()) + added
    pairs = [(old_rows[old], new) for old, new in new_path.items()]
    update = DomainUpdate(
        name,
        len(rows),
        matches.added,
        tuple((row.path, new) for row, new in pairs if row.path != new),
        tuple((new, row.label, label_of[new]) for row, new in pairs if row.label != label_of[new]),
        matches.changed,
        tuple(old_rows[path] for path in matches.removed),
        sum(bool(row.label) for row in rows),
    )
    return _DomainPlan(file, CsvText.read(file, folder).edit(change, added), images, rows, kept_labels, update, ())


def _edit_spec(file: Path, new_classes: Sequence[str], images: Mapping[str, int]) -> str:
    """Return the text of a spec with more classes and other counts; all else is kept."""
    document: Any = tomlkit.parse(read_text(file, MAX_SETTINGS_BYTES))
    classes = document["classes"]
    for name in new_classes:
        if "\n" in classes.as_string():
            classes.add_line(name, indent="  ")
        else:
            classes.append(name)
    for name, count in images.items():
        entry = document["domains"][name]
        if "images" in entry:
            entry["images"] = count
    return tomlkit.dumps(document)


def _back_up(file: Path, files: Sequence[Path]) -> Path:
    """Copy files to a new folder beside a spec and return it."""
    folder = file.with_suffix(".backup") / time.strftime("%Y-%m-%d-%H%M%S")
    while folder.exists():
        folder = folder.with_name(f"{folder.name}+")
    folder.mkdir(parents=True)
    try:
        for path in files:
            if path.is_file():
                shutil.copy2(path, folder / path.name)
    except OSError as error:
        raise ReadError.of(folder, error) from None
    return folder
