"""Custom data sets: write a spec (TOML) and one manifest (CSV) per domain for folders of images."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unimos_pipe.base.atomic_io import check_owned_file, write_text
from unimos_pipe.base.errors import Argument, Call, InputError, join_names
from unimos_pipe.base.locks import writer_lock
from unimos_pipe.data.build_manifest import file_size, find_non_utf8_names, loose_images_note, unlisted_images
from unimos_pipe.data.dataset_spec import DatasetSpec, check_spec
from unimos_pipe.data.doubtful_folders import check_class_folders, check_named_folders, class_folder
from unimos_pipe.data.find_images import find_images, skipped_summary
from unimos_pipe.data.manifest import UNKNOWN_CLASS
from unimos_pipe.data.row_lists import ManifestRow, csv_text, read_csv
from unimos_pipe.data.scan_record import ScanRecord, data_id, read_image_records, read_record, write_record

FIRST_LINE = "# A data set of one's own,"  # the mark of a file that this tool wrote
ROWS = "rows are in the CSV files."
HEADER = ("path", "class")


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
            raise InputError((Argument("domains"), f" {text}: no folder {folder}"))
        return cls(name, Path(folder).expanduser(), labels)

    def label_files(self) -> list[Path]:
        """Return the possible paths of a CSV of labels: in the folder, then as given; empty without a CSV."""
        return [] if self.labels in ("folders", "none") else [self.folder / self.labels, Path(self.labels)]


def read_domain_rows(
    domain: CustomDomain, keep_folders: Sequence[str] = (), skip_folders: Sequence[str] = ()
) -> tuple[list[ManifestRow], list[str]]:
    """Return the domain's images, sorted, with class names ('' = none), and notes about skipped files.

    Args:
        keep_folders, skip_folders: class folders that are classes, or are left out, though they look otherwise
            (:func:`unimos_pipe.data.doubtful_folders.check_class_folders`).
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
        rows = read_csv(in_folder if in_folder.exists() else as_given)
        rows = [ManifestRow(row.path, row.label.strip()) for row in rows]
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


def write_dataset(
    out: Path,
    name: str,
    encoder: str,
    domains: list[CustomDomain],
    *,
    force: bool = False,
    keep_folders: Sequence[str] = (),
    skip_folders: Sequence[str] = (),
) -> tuple[DatasetSpec, list[str]]:
    """Scan domains and write ``out`` (TOML) and, in the same folder, ``<stem of out>.<domain>.csv`` and a record.

    Args:
        keep_folders, skip_folders: as :func:`read_domain_rows` has them.
    Returns:
        The spec, and notes about skipped files.

    Raises:
        InputError: a domain given twice or unreadable, no labelled domain, a spec that would not be valid, or files of
            these names: with ``force`` those of an earlier scan are replaced unless they were edited, others never.
    """
    if len({domain.name for domain in domains}) < len(domains):
        raise InputError((Argument("domains"), ": a name is given twice"))
    csv_files = {domain.name: out.with_name(f"{out.stem}.{domain.name}.csv") for domain in domains}
    _check_replaceable(out, domains, csv_files, force)
    check_named_folders(
        [domain.folder for domain in domains if domain.labels == "folders"], (*keep_folders, *skip_folders)
    )
    rows_and_notes = {domain.name: read_domain_rows(domain, keep_folders, skip_folders) for domain in domains}
    rows = {name: part for name, (part, _) in rows_and_notes.items()}
    classes = sorted({row.label for part in rows.values() for row in part} - {"", UNKNOWN_CLASS} | {*keep_folders})
    if not classes:
        raise InputError("no domain has labels; adaptation needs a labelled source, DIR:folders or DIR:FILE.csv")
    images = {
        domain.name: read_image_records(domain.folder, [row.path for row in rows[domain.name]]) for domain in domains
    }
    values = {
        "name": name,
        "id": data_id(images, {key: {row.path: row.label for row in part} for key, part in rows.items()}),
        "encoder": encoder,
        "classes": classes,
        "domains": {
            domain.name: {
                "root": _spec_path(domain.folder, out.parent),
                "manifest": csv_files[domain.name].name,
                "word": domain.name.replace("_", " "),
                "images": len(rows[domain.name]),
            }
            for domain in domains
        },
    }
    spec = check_spec(values, out)
    with writer_lock(out, *csv_files.values()):
        for domain, part in rows.items():
            write_text(csv_files[domain], csv_text(part))
        head = f"{FIRST_LINE} for unimos-pipe. Label ids follow the order of `classes`; {ROWS}"
        write_text(out, spec_text(values, head))
        labels, skipped = {domain.name: domain.labels for domain in domains}, tuple(skip_folders)
        write_record(out, ScanRecord({}, labels, skipped, images), [out, *csv_files.values()])
    return spec, [note for _, notes in rows_and_notes.values() for note in notes]


def _check_replaceable(out: Path, domains: list[CustomDomain], csv_files: dict[str, Path], force: bool) -> None:
    """Raise InputError for existing files without ``force``; with it, for files of another origin and for inputs."""
    files = [out, *csv_files.values()]
    if not force and (existing := [path for path in files if os.path.lexists(path)]):
        raise InputError(
            (f"{join_names(existing)} exists; add ", Argument("force", True), " to replace what an earlier scan wrote")
        )
    check_owned_file(out, FIRST_LINE, "a spec", "out")
    for table in csv_files.values():
        check_owned_file(table, ",".join(HEADER), "a table of images", "out")
        if any(table.resolve() == place.resolve() for domain in domains for place in domain.label_files()):
            raise InputError(
                (f"{table} holds the labels to read and would be replaced; choose another ", Argument("out"))
            )
    record = read_record(out)
    if edited := [path for path in files if os.path.lexists(path) and not record.is_unedited(path)]:
        raise InputError(
            f"{join_names(edited)} has been edited since it was written, or is not of this data set; a new scan would "
            "lose that",
            todo=("Take in new, moved and deleted images with: ", Call("update_dataset_spec", {"file": out})),
        )


def _spec_path(folder: Path, base: Path) -> str:
    """Return a folder as the spec stores it: relative if it is below the spec's folder, so that both can be moved."""
    folder, base = folder.resolve(), base.resolve()
    return os.path.relpath(folder, base) if folder.is_relative_to(base) else str(folder)


def spec_text(values: dict, first_line: str) -> str:
    """Return the TOML text of a spec, after a first line."""
    lines = [
        first_line,
        *(f"{key} = {_quote(value)}" for key, value in values.items() if isinstance(value, str)),
        "classes = [  # in label order",
        *(f"  {_quote(name)}," for name in values["classes"]),
        "]",
        "",
        '[display]  # other wording for a class in the prompts, such as: flipflops = "flip-flops"',
    ]
    return "\n".join(lines) + "\n" + "".join(domain_text(*item) for item in values["domains"].items())


def domain_text(name: str, entry: dict) -> str:
    """Return the TOML table of a domain, to append to a spec."""
    return "\n".join(["", f"[domains.{name}]", *(f"{key} = {_quote(value)}" for key, value in entry.items()), ""])


def _quote(value: object) -> str:
    """Return a value as TOML; JSON strings are TOML strings."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
