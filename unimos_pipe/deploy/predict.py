"""Predictions of a finished run for images or cached features, as a CSV table with a row for each image."""

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from unimos_pipe.base.atomic_io import atomic_write, check_owned_file
from unimos_pipe.base.csv_escaping import escape_name, escape_path
from unimos_pipe.base.errors import Argument, ExecutionError, InputError, StaleCacheError, join_names
from unimos_pipe.base.locks import writer_lock
from unimos_pipe.base.progress import NO_PROGRESS, ProgressReporter
from unimos_pipe.base.safe_open import DEFAULT_MAX_PIXELS
from unimos_pipe.cache.cache_paths import default_cache
from unimos_pipe.cache.feature_calls import extract_call, import_or_extract_call
from unimos_pipe.cache.shard import first_difference
from unimos_pipe.cache.store import FeatureStore
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.data.find_images import find_images, skipped_summary
from unimos_pipe.data.manifest import UNKNOWN_CLASS
from unimos_pipe.deploy.adapted_model import AdaptedModel, load
from unimos_pipe.deploy.image_inputs import check_is_path
from unimos_pipe.deploy.predictions import Predictions
from unimos_pipe.evaluation.metrics import score_predictions
from unimos_pipe.methods.task import HeldOutLabels, load_unit_rows
from unimos_pipe.runs.method_names import UNIMOS
from unimos_pipe.runs.write_run import BRANCH_COLUMNS, PREDICTION_COLUMNS, RAW_COLUMN, UNKNOWN_COLUMNS


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Options of :func:`predict`."""

    top: int = 1  # number of most likely classes to write
    batch_size: int = 64  # images per encoder call
    workers: int = 2  # decoder processes; 0 decodes in this process
    max_pixels: int = DEFAULT_MAX_PIXELS  # largest image that is read; those above 89 megapixels are reduced
    weights: Path | None = None  # the encoder's weights file, if it was not loaded by a tag
    allow_torchscript: bool = False  # whether that may be a TorchScript archive not of OpenAI's, which can run code
    allow_edited: bool = False  # whether an export may have been changed since it was made


class UnreadableImage(NamedTuple):
    """An image that could not be read, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class PredictResult:
    """Result of a prediction: the table, its number of rows, the unreadable images."""

    table: Path
    rows: int
    unreadable: tuple[UnreadableImage, ...] = ()
    name: str = ""  # <data set>/<domain>, if cached features were classified
    labelled: int = 0  # number of rows with a label in the cache
    accuracy: float | None = None  # on the labelled rows, a fraction


def predict(
    run: str | Path,
    images: Sequence[str | Path],
    out: str | Path,
    options: PredictOptions = PredictOptions(),
    *,
    device: str = "auto",
    reporter: ProgressReporter = NO_PROGRESS,
) -> PredictResult:
    """Classify images with a finished run or an exported model, and write a row for each image, in order.

    Args:
        images: files and folders of images.
    Raises:
        InputError: no such run or image, or weights other than the run's.
    """
    for source in images:
        check_is_path(source)
    files, names, notes = list_images([Path(source) for source in images])
    model = load(run, device, allow_edited=options.allow_edited)
    check_top(options.top, model.classes)
    model.encoder(options.weights, allow_torchscript=options.allow_torchscript)
    for note in notes:
        reporter.warn(note)
    with reporter.progress("predict", len(files), "images") as advance:
        unreadable = predict_images(
            model,
            files,
            names,
            Path(out),
            top=options.top,
            batch_size=options.batch_size,
            workers=options.workers,
            max_pixels=options.max_pixels,
            on_rows=advance,
        )
    return PredictResult(Path(out), len(files), tuple(unreadable))


def predict_cached(
    run: str | Path,
    domain: str,
    out: str | Path,
    *,
    dataset: str | None = None,
    cache: Path | None = None,
    top: int = 1,
    device: str = "auto",
    allow_edited: bool = False,
    reporter: ProgressReporter = NO_PROGRESS,
) -> PredictResult:
    """Classify a domain's cached features with a finished run. Needs neither images nor weights.

    Args:
        dataset: name or spec of the data set; None takes the name that the run recorded.
        cache: feature cache; None takes ``$UNIMOS_CACHE``, else the user's cache folder.
        allow_edited: whether an export may have been changed since it was made.
    Raises:
        InputError: no such run or domain.
        StaleCacheError: features of another encoder than the run's.
    """
    model = load(run, device, allow_edited=allow_edited)
    spec = load_spec(dataset or model.settings["about"]["dataset"])
    cache = cache or default_cache()
    folder = cache / spec.cache_name / model.settings["encoder_id"]
    call = import_or_extract_call(folder.name, extract_call(dataset or spec.name, cache=cache))
    store = FeatureStore(spec, folder, call)
    return predict_domain(model, store, domain, Path(out), top=top, reporter=reporter)


def list_images(sources: Sequence[Path]) -> tuple[list[Path], list[str], list[str]]:
    """Return the image files below folders (sorted, recursive) and single files of any kind, in the order given.

    Returns:
        The files; their names, relative to the folder if exactly one folder is given, else as given; and a line on
        the skipped files of each folder.
    Raises:
        InputError: a path that does not exist, or a folder without images.
    """
    files: list[Path] = []
    notes: list[str] = []
    for source in sources:
        if not source.is_dir():
            if not source.exists():
                raise InputError(f"no image or folder {source}")
            files.append(source)
            continue
        image_scan = find_images(source)
        note = skipped_summary(source, image_scan.skipped)
        if not image_scan.paths:
            raise InputError(f"no image in {source}" + (f"; {note}" if note else ""))
        files += [source / path for path in image_scan.paths]
        notes += [note] if note else []
    single_folder = sources[0] if len(sources) == 1 and sources[0].is_dir() else None
    return files, [_display_path(file.relative_to(single_folder) if single_folder else file) for file in files], notes


def _display_path(file: Path) -> str:
    """Return a path for a UTF-8 table; other bytes are written as ``\\xe9``."""
    return os.fsencode(file.as_posix()).decode("utf-8", "backslashreplace")


def check_top(top: int, classes: Sequence[str]) -> None:
    """Raise InputError if ``top`` exceeds the number of classes."""
    if top > len(classes):
        raise InputError((Argument("top"), f" {top}"), expected=f"at most {len(classes)}, the model's classes", got=top)


def predict_images(
    model: AdaptedModel,
    files: Sequence[Path],
    names: Sequence[str],
    out: Path,
    *,
    top: int = 1,
    batch_size: int = 64,
    workers: int = 2,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> list[UnreadableImage]:
    """Classify images and write a row for each, in order; return the unreadable images.

    The row of an unreadable image is empty but for the reason in the column ``error``.

    Raises:
        InputError: ``top`` is above the number of classes.
        ExecutionError: no image could be read; ``out`` is not written.
    """
    check_top(top, model.classes)
    unreadable: list[UnreadableImage] = []

    def rows() -> Iterator[list[str]]:
        remaining_names = iter(names)
        for predictions in model.predict_batches(files, batch_size, workers, max_pixels):
            rows = prediction_rows(predictions, top, model.temperature is not None)
            for row, error, name in zip(rows, predictions.errors, remaining_names, strict=False):
                if error:
                    unreadable.append(UnreadableImage(name, error))
                    row = [""] * len(row)
                yield [escape_path(name), *row, escape_name(error or "")]
            on_rows(len(predictions))
        if len(unreadable) == len(files):
            reasons = join_names((f"{name} ({reason})" for name, reason in unreadable), 3)
            raise ExecutionError(f"no image could be read, {out} is not written: {reasons}")

    write_predictions(out, [*table_columns(model, top), "error"], rows())
    return unreadable


def predict_domain(
    model: AdaptedModel,
    store: FeatureStore,
    name: str,
    out: Path,
    *,
    top: int = 1,
    reporter: ProgressReporter = NO_PROGRESS,
) -> PredictResult:
    """Classify a domain's cached features. Needs neither images nor encoder weights.

    The accuracy on rows with a label is computed if data set and model have the same classes. Labels that changed since
    the domain was extracted are reported.

    Raises:
        StaleCacheError: features of another encoder than the model's.
        InputError: ``top`` is above the number of classes.
    """
    check_top(top, model.classes)
    parts = store.spec.parts(name) if name in store.spec.domains else (name,)  # the name of a split is allowed too
    domain = store.domain(*parts)
    if difference := first_difference(domain.encoder, model.identity):
        field, got, expected = difference
        raise StaleCacheError(
            f"{store.folder / name} was not encoded by the run's encoder: {field}", expected=expected, got=got
        )
    if changes := store.label_changes(domain):
        reporter.warn(f"{changes}; the accuracy is that of the older labels until it is extracted again")
    predictions = model.predict_features(load_unit_rows(domain, model.text.dtype, model.device))
    rows = prediction_rows(predictions, top, model.temperature is not None)
    rows_with_paths = ([escape_path(path), *row] for path, row in zip(domain.paths, rows, strict=True))
    write_predictions(out, table_columns(model, top), rows_with_paths)
    held_out = HeldOutLabels(domain.labels, model.classes)
    labelled = len(held_out.labelled) if model.classes == store.spec.classes else 0
    accuracy = score_predictions(predictions.probabilities.argmax(-1), held_out).accuracy if labelled else None
    return PredictResult(out, len(domain.paths), name=f"{store.spec.name}/{name}", labelled=labelled, accuracy=accuracy)


def table_columns(model: AdaptedModel, top: int) -> list[str]:
    """Return the column names of a model's predictions."""
    raw = [RAW_COLUMN] if model.temperature is not None else []
    branches = BRANCH_COLUMNS if model.method == UNIMOS else ()
    unknown = UNKNOWN_COLUMNS if model.scorer else ()
    ranked = [name for rank in range(2, top + 1) for name in (f"class_{rank}", f"probability_{rank}")]
    return [*PREDICTION_COLUMNS, *raw, *branches, *unknown, *ranked]


def prediction_rows(predictions: Predictions, top: int, raw: bool) -> Iterator[list[str]]:
    """Yield each row without its path, in the order of :func:`table_columns`.

    Args:
        raw: also the probability before calibration.
    """
    unknown = None if predictions.unknown is None else predictions.unknown.tolist()
    for index, ranked in enumerate(predictions.top(top)):
        (name, p), *others = ranked
        row = [UNKNOWN_CLASS if unknown and unknown[index] else escape_name(name), f"{p:.6f}"]
        row += [f"{predictions.raw[index].max():.6f}"] if raw else []
        for branch in (predictions.vac, predictions.lac):
            if branch is not None:
                best = branch[index].max(0)
                row += [escape_name(predictions.classes[int(best.indices)]), f"{best.values:.6f}"]
        if unknown:
            row += [f"{predictions.unknown_scores[index]:.6f}", escape_name(name)]
        yield row + [part for name, p in others for part in (escape_name(name), f"{p:.6f}")]


def write_predictions(out: Path, head: Sequence[str], rows: Iterable[list[str]]) -> None:
    """Write the table atomically. Raises InputError if ``out`` is a file of another kind."""
    check_owned_file(out, ",".join(PREDICTION_COLUMNS), "a table of predictions", "out")
    with writer_lock(out), atomic_write(out) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)
