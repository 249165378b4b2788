"""Images packed in files: tar shards of WebDataset, and Parquet or Arrow files of Hugging Face data sets.

Files are read as streams, one image or one batch of rows at a time.
"""

import json
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from unimos_pipe.base.errors import InputError, join_names, short_repr, suggestions
from unimos_pipe.base.optional_deps import require_extra
from unimos_pipe.base.safe_open import MAX_IMAGE_BYTES, list_folder, open_regular, read_json, walk_files
from unimos_pipe.data.image_decoding import image_suffixes, open_image
from unimos_pipe.data.row_lists import CLASS_COLUMNS

TARS = (".tar", ".tgz", ".tar.gz")
TABLES = (".parquet", ".arrow")
BATCH_ROWS = 64
LABEL_PARTS = ("cls", *CLASS_COLUMNS)  # of a sample of WebDataset: files of these suffixes, keys of its JSON


@dataclass(frozen=True)
class PackedImage:
    """An image of a packed file: a safe relative POSIX path, its bytes, and its class ('' = none)."""

    path: str
    content: bytes
    label: str


def find_packed_files(source: Path) -> list[Path]:
    """Return the packed files of a source: itself, or those below a folder in order.

    Raises:
        InputError: neither a packed file nor a folder of such files.
    """
    if source.is_file() and source.name.lower().endswith((*TARS, *TABLES)):
        return [source]
    if source.is_dir():
        if (source / "state.json").is_file():  # of datasets' save_to_disk, whose folder may hold caches, too
            files = [source / entry["filename"] for entry in read_json(source / "state.json")["_data_files"]]
        elif (source / "dataset_dict.json").is_file():
            files = [file for part in list_folder(source) if part.is_dir() for file in find_packed_files(part)]
        else:
            files = [path for path in walk_files(source) if path.name.lower().endswith((*TARS, ".parquet"))]
        if files:
            return files
    kinds = join_names((*TARS, *TABLES))
    todo = "A folder of image files needs no unpacking: scan it. Other archives: unpack them to a folder first"
    raise InputError(f"{source}", expected=f"a file ({kinds}), or a folder of such files", got="neither", todo=todo)


def read_packed(file: Path, image_column: str | None = None, label_column: str | None = None) -> Iterator[PackedImage]:
    """Yield the images of a packed file in order.

    Args:
        image_column, label_column: of a table; None: by the data set's own description, else by type and name.
    Raises:
        InputError: a damaged file, unsafe paths, a table without images or without such columns, no pyarrow.
    """
    if file.name.lower().endswith(TARS):
        yield from _read_tar(file)
    else:
        require_extra(f"reading {file.name}", "parquet")
        yield from _read_table(file, image_column, label_column)


def _read_tar(file: Path) -> Iterator[PackedImage]:
    sample: dict[str, bytes] = {}
    current = None
    try:
        with open_regular(file, sys.maxsize) as stream, tarfile.open(fileobj=stream, mode="r|*") as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if not member.isfile() or path.name.startswith("."):
                    continue
                if path.is_absolute() or ".." in path.parts or member.size > MAX_IMAGE_BYTES:
                    raise InputError(f"{file}: {short_repr(member.name)} is too large or leaves the archive")
                stem, _, kind = path.name.partition(".")
                key = path.with_name(stem).as_posix()
                if key != current:
                    yield from _tar_images(current, sample)
                    sample, current = {}, key
                content = tar.extractfile(member)
                sample[kind] = content.read() if content else b""
    except tarfile.TarError as error:
        raise InputError(f"{file} is no whole tar archive: {error}") from None
    yield from _tar_images(current, sample)


def _tar_images(key: str | None, sample: Mapping[str, bytes]) -> Iterator[PackedImage]:
    """Yield the images of a sample: the files of one key by suffix."""
    label = next((sample[kind].decode("utf-8", "replace").strip() for kind in LABEL_PARTS if kind in sample), "")
    if not label and "json" in sample:
        try:
            values = json.loads(sample["json"])
            label = next((str(values[name]) for name in LABEL_PARTS if values.get(name) is not None), "")
        except (ValueError, AttributeError):  # no JSON, or no object
            label = ""
    for kind, content in sample.items():
        if f".{kind.rpartition('.')[2].lower()}" in image_suffixes():
            yield PackedImage(f"{key}.{kind}", content, label)


def _read_table(file: Path, image_column: str | None, label_column: str | None) -> Iterator[PackedImage]:
    import pyarrow  # of the extra [parquet]
    import pyarrow.parquet

    try:
        with open_regular(file, sys.maxsize) as stream:
            if file.suffix.lower() == ".parquet":
                table = pyarrow.parquet.ParquetFile(stream)
                schema = table.schema_arrow
                image, label = _choose_columns(file, schema, image_column, label_column)
                batches = table.iter_batches(BATCH_ROWS, columns=[image, *([label] if label else [])])
            else:
                reader = pyarrow.ipc.open_stream(stream)
                schema, batches = reader.schema, reader
                image, label = _choose_columns(file, schema, image_column, label_column)
            names = _class_names(schema, label)
            row = 0
            for batch in batches:
                labels = batch.column(label).to_pylist() if label else [None] * batch.num_rows
                for value, text in zip(batch.column(image).to_pylist(), labels, strict=True):
                    content = value.get("bytes") if isinstance(value, dict) else value
                    if not content:
                        raise InputError(
                            f"{file}: row {row} of {image} has no bytes",
                            todo="If it has paths of files, list these in a CSV and scan them",
                        )
                    yield PackedImage(f"{row:08d}{_suffix(content)}", content, _label_text(text, names))
                    row += 1
    except pyarrow.ArrowException as error:
        raise InputError(f"{file} cannot be read: {' '.join(str(error).split())[:200]}") from None


def _choose_columns(file: Path, schema: Any, image: str | None, label: str | None) -> tuple[str, str | None]:
    """Return the columns of images and of labels (None = no labels)."""
    for name in (image, label):
        if name is not None and name not in schema.names:
            raise InputError(f"{file}: no column {name!r}; {suggestions(name, schema.names)}")
    described = {name: entry.get("_type") for name, entry in _described(schema).items() if isinstance(entry, dict)}
    images = [name for name in schema.names if described.get(name) == "Image"] or [
        field.name
        for field in schema
        if str(field.type) in ("binary", "large_binary") or "bytes: binary" in str(field.type)
    ]
    labels = [name for name in schema.names if described.get(name) == "ClassLabel"]
    labels = labels or [name for name in schema.names if name.lower() in CLASS_COLUMNS]
    if image is None and not images:
        raise InputError(f"{file}: no column of images among {join_names(schema.names)}")
    return image or images[0], label or (labels[0] if labels else None)


def _described(schema: Any) -> dict[str, Any]:
    """Return the description of the columns that the datasets library writes; empty without one."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])
        return dict(info["info"]["features"])
    except (KeyError, TypeError, ValueError):
        return {}


def _class_names(schema: Any, label: str | None) -> list[str]:
    entry = _described(schema).get(label or "")
    names = entry.get("names") if isinstance(entry, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else []


def _label_text(value: object, names: list[str]) -> str:
    """Return a label as text: a class name, or the number as it is if no names are known; '' for none and -1."""
    if value is None or value == -1:
        return ""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return names[value]
    return str(value).strip()


def _suffix(content: bytes) -> str:
    """Return the suffix of an image's format; .jpg for bytes of no known format, which are then unreadable."""
    try:
        with open_image(content) as image:
            return {"JPEG": ".jpg", "JPEG2000": ".jp2"}.get(image.format or "", f".{(image.format or 'jpg').lower()}")
    except Exception:  # damaged headers raise anything
        return ".jpg"
