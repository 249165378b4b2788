"""The record beside a spec of one's own: digests of the files that a scan wrote, and of the images that it listed.

Without it an update recognises no moved images, and a scan takes the files for edited.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xxhash

from unimos_pipe.base.atomic_io import write_text
from unimos_pipe.base.errors import ReadError
from unimos_pipe.base.safe_open import MAX_TEXT_BYTES, read_bytes, read_json
from unimos_pipe.data.file_digests import FileRecord, read_file_digests

SCHEMA = 1


@dataclass(frozen=True)
class ScanRecord:
    """Record of a scan or an update.

    ``files`` has the digest of each written file by name, ``labels`` the source of each domain's labels as
    :class:`unimos_pipe.data.custom_dataset.CustomDomain` has it, ``skip_folders`` the class folders left out, and
    ``images`` the record of each image by domain and path, ``kept_labels`` the typed labels of deleted images by domain
    and digest.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    skip_folders: tuple[str, ...] = ()
    images: Mapping[str, Mapping[str, FileRecord]] = field(default_factory=dict)
    kept_labels: Mapping[str, Mapping[bytes, str]] = field(default_factory=dict)

    def is_unedited(self, file: Path) -> bool:
        """Return True if a file is as it was written."""
        return self.files.get(file.name) == _text_digest(file)


def record_path(spec_file: Path) -> Path:
    """Return the path of a spec's record."""
    return spec_file.with_suffix(".scan.json")


def read_image_records(
    folder: Path, paths: Sequence[str], records: Mapping[str, FileRecord] | None = None
) -> dict[str, FileRecord]:
    """Return the record of each image by path; images that are unchanged since an earlier record are not read."""
    digests = read_file_digests(folder, paths, records or {})
    rows = zip(paths, digests.stamps.tolist(), digests.digests, strict=True)
    return {path: FileRecord(tuple(stamp), digests.read_at, row.tobytes()) for path, stamp, row in rows}


def data_id(images: Mapping[str, Mapping[str, FileRecord]], labels: Mapping[str, Mapping[str, str]]) -> str:
    """Return an identity of a data set, 8 hexadecimal digits, from its images and their labels by domain and path."""
    digest = xxhash.xxh3_64()
    for domain, records in sorted(images.items()):
        for path, record in sorted(records.items()):
            digest.update(json.dumps([domain, path, record.digest.hex(), labels[domain][path]]).encode())
    return digest.hexdigest()[:8]


def write_record(spec_file: Path, record: ScanRecord, written: list[Path]) -> None:
    """Write the record beside a spec, with the digests of the files just written."""
    images = {
        domain: {path: [entry.digest.hex(), entry.read_at, *entry.stamp] for path, entry in records.items()}
        for domain, records in record.images.items()
    }
    values = {
        "schema": SCHEMA,
        "files": {file.name: _text_digest(file) for file in written},
        "labels": dict(record.labels),
        "skip_folders": list(record.skip_folders),
        "images": images,
        "kept_labels": {
            domain: {digest.hex(): label for digest, label in labels.items()}
            for domain, labels in record.kept_labels.items()
        },
    }
    write_text(record_path(spec_file), json.dumps(values, ensure_ascii=False))


def read_record(spec_file: Path) -> ScanRecord:
    """Return the record beside a spec; an empty one if there is none, or one of another version or damaged."""
    try:
        values = read_json(record_path(spec_file), MAX_TEXT_BYTES)
        if values["schema"] != SCHEMA:
            return ScanRecord()
        images = {
            str(domain): {
                path: FileRecord(tuple(map(int, stamp)), int(read_at), bytes.fromhex(digest))
                for path, (digest, read_at, *stamp) in records.items()
            }
            for domain, records in values["images"].items()
        }
        kept_labels = {
            domain: {bytes.fromhex(digest): str(label) for digest, label in labels.items()}
            for domain, labels in values.get("kept_labels", {}).items()
        }
        skip_folders = tuple(values["skip_folders"])
        return ScanRecord(dict(values["files"]), dict(values["labels"]), skip_folders, images, kept_labels)
    except ReadError as error:
        if not error.lasting:
            raise
        return ScanRecord()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ScanRecord()


def _text_digest(file: Path) -> str:
    return xxhash.xxh3_128_hexdigest(np.frombuffer(read_bytes(file, MAX_TEXT_BYTES), np.uint8))
