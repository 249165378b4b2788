"""A finished run applied to images or cached features: answers as a CSV table, one row in, one row out."""

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from unimos_pipe.base.atomic_io import refuse_foreign_file, replacing
from unimos_pipe.base.csv_escaping import name_to_cell, path_to_cell
from unimos_pipe.base.errors import RunError, StaleCacheError, UserError, listing
from unimos_pipe.base.locks import sole_writer
from unimos_pipe.base.progress import SILENT, Watch
from unimos_pipe.cache.cache_paths import default_cache
from unimos_pipe.cache.feature_set import extract_command, making_command
from unimos_pipe.cache.shard import differing_field
from unimos_pipe.cache.store import FeatureStore
from unimos_pipe.data.find_images import find_images, left_out
from unimos_pipe.data.manifest import load_spec
from unimos_pipe.deploy.adapted_model import AdaptedModel, load
from unimos_pipe.deploy.predictions import Answers
from unimos_pipe.evaluation.metrics import score
from unimos_pipe.methods.task import HeldOutLabels, stored_rows
from unimos_pipe.runs.method_names import UNIMOS
from unimos_pipe.runs.write_run import BRANCH_COLUMNS, PREDICTION_COLUMNS, RAW_COLUMN


@dataclass(frozen=True)
class AnswerOptions:
    """How images are classified and what is written of the answers."""

    top: int = 1  # also the next likeliest classes, so many in all
    batch_size: int = 64  # images per encoder call
    workers: int = 2  # processes that decode; 0 decodes in this one
    weights: Path | None = None  # the encoder's, if they were a file
    trust: bool = False  # whether that may be a TorchScript archive that is not OpenAI's, which can run code


class Unreadable(NamedTuple):
    """An image that could not be read."""

    name: str
    reason: str


@dataclass(frozen=True)
class Predicted:
    """A table of answers that was written: its rows, and every image that could not be read."""

    table: Path
    rows: int
    unreadable: tuple[Unreadable, ...] = ()
    name: str = ""  # <data set>/<domain>, where rows of the cache were classified
    labelled: int = 0  # how many of them have a label there
    accuracy: float | None = None  # on those, a fraction


def predict(
    run: str | Path,
    images: Sequence[str | Path],
    out: str | Path,
    options: AnswerOptions = AnswerOptions(),
    *,
    device: str = "auto",
    watch: Watch = SILENT,
) -> Predicted:
    """Classify images with a finished run or an exported model, and write a row for each, in order.

    Args:
        images: files, and folders of them.
    Raises:
        UserError: no such run or image, or other weights than the run's.
    """
    files, names, notes = list_images([Path(source) for source in images])
    model = load(run, device)
    refuse_too_many(options.top, model.classes)
    model.encoder(options.weights, trust=options.trust)
    for note in notes:
        watch.warn(note)
    with watch.progress("predict", len(files), "images") as advance:
        unreadable = predict_images(
            model,
            files,
            names,
            Path(out),
            top=options.top,
            batch_size=options.batch_size,
            workers=options.workers,
            on_rows=advance,
        )
    return Predicted(Path(out), len(files), tuple(unreadable))


def predict_cached(
    run: str | Path,
    domain: str,
    out: str | Path,
    *,
    dataset: str | None = None,
    cache: Path | None = None,
    top: int = 1,
    device: str = "auto",
) -> Predicted:
    """Classify a domain's cached features with a finished run; needs neither images nor weights.

    Args:
        dataset: its spec, if it is not one that is known by the name the run recorded.
        cache: where the features are; None takes ``$UNIMOS_CACHE``, else the user's cache folder.
    Raises:
        UserError, StaleCacheError: no such run or domain, or features of another encoder than the run's.
    """
    model = load(run, device)
    spec = load_spec(dataset or model.settings["about"]["dataset"])
    folder = (cache or default_cache()) / spec.name / model.settings["encoder_id"]
    store = FeatureStore(spec, folder, making_command(folder.name, extract_command(dataset or spec.name)))
    return predict_domain(model, store, domain, Path(out), top=top)


def list_images(sources: Sequence[Path]) -> tuple[list[Path], list[str], list[str]]:
    """Image files of folders (sorted, sub-folders too) and single files whatever they are, in the order given.

    Returns:
        The files; their names, relative to the folder where only one folder is given, else as given; and a line about
        what was left out of each folder.
    Raises:
        UserError: a path that is not there, a folder without images, or nothing at all.
    """
    files: list[Path] = []
    notes: list[str] = []
    for source in sources:
        if not source.is_dir():
            if not source.exists():
                raise UserError(f"no image or folder {source}")
            files.append(source)
            continue
        found = find_images(source)
        note = left_out(source, found.left)
        if not found.paths:
            raise UserError(f"no image in {source}" + (f"; {note}" if note else ""))
        files += [source / path for path in found.paths]
        notes += [note] if note else []
    only = sources[0] if len(sources) == 1 and sources[0].is_dir() else None
    return files, [_name(file.relative_to(only) if only else file) for file in files], notes


def _name(file: Path) -> str:
    """A path for a UTF-8 table: bytes that are none stand as ``\\xe9``."""
    return os.fsencode(file.as_posix()).decode("utf-8", "backslashreplace")


def refuse_too_many(top: int, classes: Sequence[str]) -> None:
    """Raise UserError if more places are asked for than there are classes."""
    if top > len(classes):
        raise UserError(f"--top {top}", expected=f"at most {len(classes)}, the model's classes", got=top)


def predict_images(
    model: AdaptedModel,
    files: Sequence[Path],
    names: Sequence[str],
    out: Path,
    *,
    top: int = 1,
    batch_size: int = 64,
    workers: int = 2,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> list[Unreadable]:
    """Classify images and write a row for each, in order; returns those that could not be read.

    A row of an unreadable image has no answers and says why in the column ``error``.

    Raises:
        UserError: ``top`` is above the number of classes.
        RunError: no image could be read; ``out`` is not written.
    """
    refuse_too_many(top, model.classes)
    unreadable: list[Unreadable] = []

    def rows() -> Iterator[list[str]]:
        named = iter(names)
        for answers in model.predict_batches(files, batch_size, workers):
            rows = answer_rows(answers, top, model.temperature is not None)
            for row, error, name in zip(rows, answers.errors, named, strict=False):
                if error:
                    unreadable.append(Unreadable(name, error))
                    row = [""] * len(row)
                yield [path_to_cell(name), *row, name_to_cell(error or "")]
            on_rows(len(answers))
        if len(unreadable) == len(files):
            reasons = listing((f"{name} ({reason})" for name, reason in unreadable), 3)
            raise RunError(f"no image could be read, {out} is not written: {reasons}")

    write_answers(out, [*table_head(model, top), "error"], rows())
    return unreadable


def predict_domain(model: AdaptedModel, store: FeatureStore, name: str, out: Path, *, top: int = 1) -> Predicted:
    """Classify a domain's cached features; needs neither images nor encoder weights.

    The answers are scored on the rows that have a label, if the data set's classes are the model's.

    Raises:
        StaleCacheError: features of another encoder than the model's.
        UserError: ``top`` is above the number of classes.
    """
    refuse_too_many(top, model.classes)
    parts = store.spec.parts(name) if name in store.spec.domains else (name,)  # a split may be named itself
    domain = store.domain(*parts)
    if difference := differing_field(domain.encoder, model.identity):
        field, got, wanted = difference
        raise StaleCacheError(
            f"{store.folder / name} was not encoded by the run's encoder: {field}", expected=wanted, got=got
        )
    answers = model.answer(stored_rows(domain, model.text.dtype, model.device))
    rows = answer_rows(answers, top, model.temperature is not None)
    named = ([path_to_cell(path), *row] for path, row in zip(domain.paths, rows, strict=True))
    write_answers(out, table_head(model, top), named)
    held_out = HeldOutLabels(domain.labels, model.classes)
    labelled = len(held_out.known) if model.classes == store.spec.classes else 0
    accuracy = score(answers.probabilities.argmax(-1), held_out).accuracy if labelled else None
    return Predicted(out, len(domain.paths), name=f"{store.spec.name}/{name}", labelled=labelled, accuracy=accuracy)


def table_head(model: AdaptedModel, top: int) -> list[str]:
    """The columns of a model's answers."""
    raw = [RAW_COLUMN] if model.temperature is not None else []
    branches = BRANCH_COLUMNS if model.method == UNIMOS else ()
    places = [name for place in range(2, top + 1) for name in (f"class_{place}", f"probability_{place}")]
    return [*PREDICTION_COLUMNS, *raw, *branches, *places]


def answer_rows(answers: Answers, top: int, raw: bool) -> Iterator[list[str]]:
    """Everything but the path of each row: the answer, with ``raw`` its raw probability, branches, places 2 to top."""
    for index, ranked in enumerate(answers.top(top)):
        (name, p), *others = ranked
        row = [name_to_cell(name), f"{p:.6f}"]
        row += [f"{answers.raw[index].max():.6f}"] if raw else []
        for branch in (answers.vac, answers.lac):
            if branch is not None:
                best = branch[index].max(0)
                row += [name_to_cell(answers.classes[int(best.indices)]), f"{best.values:.6f}"]
        yield row + [part for name, p in others for part in (name_to_cell(name), f"{p:.6f}")]


def write_answers(out: Path, head: Sequence[str], rows: Iterable[list[str]]) -> None:
    """Write the table whole or not at all, over nothing but an earlier one. Raises UserError for any other file."""
    refuse_foreign_file(out, ",".join(PREDICTION_COLUMNS), "a table of answers", "--out")
    with sole_writer(out), replacing(out) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)
