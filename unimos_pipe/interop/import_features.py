"""Import of features from files into the cache. All checks precede all writes."""

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unimos_pipe.base.atomic_io import check_writable_folder
from unimos_pipe.base.dataclass_parsing import parse_dataclass
from unimos_pipe.base.device import pick_device
from unimos_pipe.base.errors import Argument, InputError
from unimos_pipe.base.locks import writer_lock
from unimos_pipe.base.method_config import DEFAULT_TEMPLATE, EncoderSpec, PromptSpec
from unimos_pipe.base.progress import NO_PROGRESS, ProgressReporter
from unimos_pipe.cache.cache_paths import default_cache
from unimos_pipe.cache.encoder_identity import imported_id, imported_identity
from unimos_pipe.cache.external_features import (
    ImportedDomain,
    check_encoder_name,
    check_same_dim,
    write_imported_domain,
    write_imported_text,
)
from unimos_pipe.cache.feature_checks import text_fault
from unimos_pipe.cache.shard import TextHeader
from unimos_pipe.data.build_manifest import count_warning
from unimos_pipe.data.dataset_spec import DatasetSpec, load_spec
from unimos_pipe.data.feature_dataset import SpecEdit, add_domain
from unimos_pipe.data.manifest import NO_LABEL, Manifest
from unimos_pipe.data.prompts import build_prompts
from unimos_pipe.extract.prompt_checks import identical_text_features
from unimos_pipe.extract.write_shards import library_versions
from unimos_pipe.interop.find_arrays import TEXT_NAMES, ArrayChoice, FeatureRows, ImageAxis, read_feature_files
from unimos_pipe.interop.imported_labels import label_rows

MAX_LISTED_FILES = 100  # listed one by one in a header: an HDF5 attribute holds 64 KiB


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Options of an import, in addition to the files."""

    labels: Path | None = None  # CSV of path,class, or class alone in row order; or a file with an array of labels
    paths: tuple[Path, ...] = ()  # lists of the rows' paths, in their order
    key: str | None = None  # name of the array of features, where a file holds several
    label_key: str | None = None  # name of the array of labels, where a file holds several; "" reads none
    images_in: ImageAxis | None = None  # axis of the images, where an array may be read both ways
    classes: Path | None = None  # class names, one a line in label order: makes the spec or adds the domain to it
    text: Path | None = None  # (K, D) features of the class prompts for this domain's word
    text_from: EncoderSpec | None = None  # or the model whose text tower computes them, in fp32 by default
    templates: tuple[str, ...] = (DEFAULT_TEMPLATE,)  # of the prompts
    strict_counts: bool = False  # raise if counts differ from the published ones, instead of warning
    force: bool = False  # replace other rows of this domain and encoder


@dataclass(frozen=True)
class ImportResult:
    """Result of an import: ``folder`` is the encoder's cache folder, ``kept`` is True if all rows were cached."""

    dataset: DatasetSpec
    folder: Path
    rows: int
    dim: int
    labelled: int
    kept: bool
    warnings: tuple[str, ...]


def import_features(
    files: Sequence[str | Path],
    dataset: str,
    domain: str,
    encoder_name: str,
    options: ImportOptions = ImportOptions(),
    *,
    cache: str | Path | None = None,
    device: str = "auto",
    reporter: ProgressReporter = NO_PROGRESS,
) -> ImportResult:
    """Import image features of another program as verified shards.

    Args:
        files: of (n, D) features, in a format of :data:`unimos_pipe.interop.array_readers.ARRAY_READERS`; several are
            one domain in the order given.
        dataset: a known data set's name, or the path of a spec file.
        domain: the domain, or one of its splits (``clipart.train``).
        encoder_name: the encoder's name; features imported under one name count as one encoder.
        cache: None takes ``$UNIMOS_CACHE``, else the user's cache folder.
        device: of the text tower.
    Raises:
        InputError: unknown names, files that cannot be read or do not fit each other or the data set, other rows in the
            cache without ``force``. Nothing is written then.
        ExecutionError: a full disk.
    """
    _check_options(files, encoder_name, options)
    files = [Path(file) for file in files]
    choice = ArrayChoice(key=options.key, label_key=options.label_key, images_in=options.images_in)
    rows = read_feature_files(files, choice=choice, group=domain.partition(".")[0])
    with _lock_spec(dataset, options.classes):
        spec_edit = _edit_spec(dataset, domain, options.classes, len(rows.features))
        what = f"{files[0]}" if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
        paths = options.paths or _find_metadata(files)
        labelled_rows = label_rows(rows, spec_edit.spec.classes, options.labels, paths, what)
        origin = _describe_origin(encoder_name, rows, options)
        imported = ImportedDomain(
            spec_edit.spec, domain, encoder_name, rows.features, labelled_rows.paths, labelled_rows.labels, origin
        )
        warnings = [*labelled_rows.notes, *_check_counts(imported, options.strict_counts)]
        encoder_folder = Path(cache or default_cache()) / imported.spec.cache_name / imported_id(encoder_name)
        check_same_dim(encoder_folder, imported)
        text = _make_text_features(imported, options, device)
        if text and (note := identical_text_features(text[1], imported.spec.classes)):
            warnings.append(note)
        check_writable_folder(encoder_folder.parent, "cache")
        if spec_edit.file:
            check_writable_folder(spec_edit.file.parent, "dataset")
        unchanged = not write_imported_domain(encoder_folder, imported, library_versions(), force=options.force)
        if text:
            write_imported_text(encoder_folder, *text)
        spec_edit.write()
    for line in warnings:
        reporter.warn(line)
    labelled = int((imported.labels != NO_LABEL).sum())
    return ImportResult(imported.spec, encoder_folder, *rows.features.shape, labelled, unchanged, tuple(warnings))


def _check_options(files: Sequence[str | Path], name: str, options: ImportOptions) -> None:
    if not files:
        raise InputError("no file of features is named")
    check_encoder_name(name)
    if options.text and options.text_from:
        raise InputError((Argument("text"), " and ", Argument("text_from"), " exclude each other"))
    parse_dataclass(PromptSpec, {"templates": options.templates}, "templates")


def _lock_spec(dataset: str, classes: Path | None) -> AbstractContextManager:
    """Return the lock of a spec file that may be created or changed."""
    file = Path(dataset)
    if not classes or file.suffix != ".toml":
        return nullcontext()
    if not file.parent.is_dir():
        raise InputError((Argument("dataset"), f" {dataset}: no folder {file.parent}"))
    return writer_lock(file)


def _edit_spec(dataset: str, domain: str, classes: Path | None, rows: int) -> SpecEdit:
    """Return the spec edit that gives the data set this domain."""
    spec_edit = add_domain(dataset, domain, classes, rows) if classes else SpecEdit(load_spec(dataset))
    spec_edit.spec.domain_of(domain)
    return spec_edit


def _find_metadata(files: Sequence[Path]) -> tuple[Path, ...]:
    """Return clip-retrieval's ``metadata_3.parquet`` of each ``img_emb_3.npy``, in its folder or ``../metadata``."""
    metadata = []
    for file in files:
        name = f"{file.stem.replace('img_emb', 'metadata')}.parquet"
        candidates = [file.with_name(name), file.parent.parent / "metadata" / name]
        metadata += [place for place in candidates if file.stem.startswith("img_emb_") and place.is_file()][:1]
    return tuple(metadata) if len(metadata) == len(files) else ()


def _check_counts(imported: ImportedDomain, strict: bool) -> list[str]:
    """Return a warning if counts differ from the published ones. Raises InputError with ``strict``."""
    spec, sizes = imported.spec, np.zeros(len(imported.paths), np.int64)
    rows = Manifest(spec.cache_name, imported.part, spec.classes, Path(), imported.paths, imported.labels, sizes)
    warning = count_warning(spec, rows)
    if warning and strict:
        raise InputError((Argument("strict_counts"), f": {warning}"))
    return [warning] if warning else []


def _describe_origin(name: str, rows: FeatureRows, options: ImportOptions) -> dict[str, Any]:
    """Return the origin for the shard headers: files and options."""
    given = {"labels": options.labels, "paths": ", ".join(map(str, options.paths)), "classes": options.classes}
    files = list(rows.file_records)
    if len(files) > MAX_LISTED_FILES:
        combined_digest = hashlib.sha256("".join(entry["sha256"] for entry in files).encode()).hexdigest()
        files = [{"files": len(files), "sha256": combined_digest}]
    return {"encoder": name, "files": files, **{key: str(value) for key, value in given.items() if value}}


def _make_text_features(
    imported: ImportedDomain, options: ImportOptions, device: str
) -> tuple[TextHeader, np.ndarray] | None:
    """Return the domain's (K, D) text features, read or computed, and their header; None without text options."""
    spec = imported.spec
    word = spec.domain(spec.domain_of(imported.part)).word
    prompts = build_prompts(options.templates, word, spec.class_prompts())
    shape, scale = (len(spec.classes), imported.features.shape[1]), None
    if options.text:
        text_rows = read_feature_files([options.text], dtype=np.float32, names=TEXT_NAMES)
        features, origin, what = (
            text_rows.features,
            {"files": list(text_rows.file_records)},
            (Argument("text"), f" {options.text}"),
        )
    elif options.text_from:
        from unimos_pipe.extract.extract_domain import encode_prompts  # importing open_clip takes seconds
        from unimos_pipe.extract.plugin_encoder import open_encoder

        any_precision = options.text_from.precision == "auto"
        text_spec = replace(options.text_from, precision="fp32") if any_precision else options.text_from
        encoder = open_encoder(text_spec, pick_device(device))
        features, origin = encode_prompts(encoder, prompts), {"encoder": asdict(encoder.identity)}
        what, scale = (Argument("text_from"), f" {options.text_from.model}"), encoder.logit_scale
    else:
        return None
    if features.shape != shape:
        raise InputError(what, expected=f"({shape[0]} classes, D = {shape[1]})", got=features.shape)
    if fault := text_fault(features):
        raise InputError((*what, f": the text features {fault}"))
    header = TextHeader(
        **asdict(imported_identity(imported.encoder_name)),
        class_names=spec.classes,
        prompts=tuple(tuple(row) for row in prompts),
        dataset=spec.cache_name,
        word=word,
        templates=options.templates,
        versions=library_versions(),
        origin=origin,
        logit_scale=scale or 0.0,
    )
    return header, features
