"""Custom data sets: write a spec (TOML) and one manifest (CSV) per domain for folders of images."""

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from unimos_pipe.base.atomic_io import check_owned_file, write_text
from unimos_pipe.base.errors import Argument, Call, InputError, join_names
from unimos_pipe.base.locks import writer_lock
from unimos_pipe.data.class_spellings import bind_spellings
from unimos_pipe.data.custom_domain import CustomDomain, ScannedDomain, scan_domain
from unimos_pipe.data.dataset_spec import DatasetSpec, check_spec
from unimos_pipe.data.doubtful_folders import check_named_folders
from unimos_pipe.data.manifest import UNKNOWN_CLASS
from unimos_pipe.data.row_lists import csv_text
from unimos_pipe.data.scan_record import ScanRecord, data_id, read_image_records, read_record, write_record

FIRST_LINE = "# A data set of one's own,"  # the mark of a file that this tool wrote
ROWS = "rows are in the CSV files."
HEADER = ("path", "class")


def write_dataset(
    out: Path,
    name: str,
    encoder: str,
    domains: list[CustomDomain],
    *,
    force: bool = False,
    keep_folders: Sequence[str] = (),
    skip_folders: Sequence[str] = (),
    allow_outside: bool = False,
) -> tuple[DatasetSpec, list[str]]:
    """Scan domains and write ``out`` (TOML) and, in the same folder, ``<stem of out>.<domain>.csv`` and a record.

    Args:
        domains: several of one name are one domain of several folders.
        keep_folders, skip_folders, allow_outside: as :func:`unimos_pipe.data.custom_domain.scan_domain` has them.
    Returns:
        The spec, and notes about skipped files.

    Raises:
        InputError: a domain that is unreadable, no labelled domain, class names of unclear spelling, a spec that would
            not be valid, or files of these names: with ``force`` those of an earlier scan are replaced unless they were
            edited, others never.
    """
    parts = {domain.name: [part for part in domains if part.name == domain.name] for domain in domains}
    inputs = [place for domain in domains for place in domain.label_files()]
    _check_replaceable(out, inputs, list(_csv_files(out, parts).values()), force)
    in_csv = any(domain.label_files() for domain in domains)  # whose classes may be kept, too
    check_named_folders(
        [domain.folder for domain in domains if domain.labels == "folders"],
        skip_folders if in_csv else (*keep_folders, *skip_folders),
    )
    scanned = [scan_domain(group, keep_folders, skip_folders, allow_outside=allow_outside) for group in parts.values()]
    scanned, notes = bind_spellings(scanned, keep_folders)
    spec = write_scanned(out, name, encoder, scanned, keep_folders, skip_folders)
    return spec, [*(note for domain in scanned for note in domain.notes), *notes]


def write_scanned(
    out: Path,
    name: str,
    encoder: str,
    domains: Sequence[ScannedDomain],
    classes: Sequence[str] = (),
    skip_folders: Sequence[str] = (),
) -> DatasetSpec:
    """Write the spec, CSVs and record of scanned domains; files of these names are replaced.

    Args:
        classes: further ones, without an image.
        skip_folders: class folders that were left out.
    Raises:
        InputError: no labelled domain, or a spec that would not be valid.
    """
    csv_files = _csv_files(out, [domain.name for domain in domains])
    names = sorted({row.label for domain in domains for row in domain.rows} - {"", UNKNOWN_CLASS} | {*classes})
    if not names:
        raise InputError("no domain has labels; adaptation needs a labelled source, DIR:folders or DIR:FILE.csv")
    images = {domain.name: read_image_records(domain.root, [row.path for row in domain.rows]) for domain in domains}
    labels = {domain.name: {row.path: row.label for row in domain.rows} for domain in domains}
    values = {
        "name": name,
        "id": data_id(images, labels),
        "encoder": encoder,
        "classes": names,
        "domains": {domain.name: _domain_values(domain, out, csv_files[domain.name]) for domain in domains},
    }
    spec = check_spec(values, out)
    with writer_lock(out, *csv_files.values()):
        for domain in domains:
            write_text(csv_files[domain.name], csv_text(domain.rows))
        head = f"{FIRST_LINE} for unimos-pipe. Label ids follow the order of `classes`; {ROWS}"
        write_text(out, spec_text(values, head))
        sources = {domain.name: domain.labels for domain in domains}
        write_record(out, ScanRecord({}, sources, tuple(skip_folders), images), [out, *csv_files.values()])
    return spec


def _csv_files(out: Path, names: Iterable[str]) -> dict[str, Path]:
    return {name: out.with_name(f"{out.stem}.{name}.csv") for name in names}


def _domain_values(domain: ScannedDomain, out: Path, table: Path) -> dict[str, Any]:
    """Return the table of a domain in the spec."""
    return {
        "root": _spec_path(domain.root, out.parent),
        **({"search": list(domain.search)} if domain.search else {}),
        **({"listed_only": True} if domain.listed_only else {}),
        "manifest": table.name,
        "word": domain.name.replace("_", " "),
        "images": len(domain.rows),
    }


def _check_replaceable(out: Path, inputs: list[Path], csv_files: list[Path], force: bool) -> None:
    """Raise InputError for existing files without ``force``; with it, for files of another origin and for inputs."""
    files = [out, *csv_files]
    if not force and (existing := [path for path in files if os.path.lexists(path)]):
        raise InputError(
            (f"{join_names(existing)} exists; add ", Argument("force", True), " to replace what an earlier scan wrote")
        )
    check_owned_file(out, FIRST_LINE, "a spec", "out")
    for table in csv_files:
        check_owned_file(table, ",".join(HEADER), "a table of images", "out")
        if any(table.resolve() == place.resolve() for place in inputs):
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
