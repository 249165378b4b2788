"""A finished run applied to images or cached features: answers as a CSV table, one row in, one row out."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from unimos_pipe.base.errors import StaleCacheError, UserError
from unimos_pipe.base.files import refuse_foreign_file, replacing
from unimos_pipe.cache.shard import differing_field
from unimos_pipe.cache.store import FeatureStore
from unimos_pipe.data.scan import IMAGE_SUFFIXES
from unimos_pipe.deploy.model import AdaptedModel, Answers
from unimos_pipe.runs.folder import PREDICTION_COLUMNS


def list_images(sources: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Image files of folders (sorted, sub-folders too) and single files, in the order given, and their names.

    Names are relative to the folder where only one folder is given, else as given.

    Raises:
        UserError: a path that is not there, a folder without images, or nothing at all.
    """
    files: list[Path] = []
    for source in sources:
        if source.is_dir():
            found = sorted(p for p in source.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
            if not found:
                raise UserError(
                    f"no image in {source}", expected=f"files ending in {', '.join(sorted(IMAGE_SUFFIXES))}"
                )
            files += found
        elif source.is_file():
            files.append(source)
        else:
            raise UserError(f"no image or folder {source}")
    only = sources[0] if len(sources) == 1 and sources[0].is_dir() else None
    return files, [(file.relative_to(only) if only else file).as_posix() for file in files]


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
) -> list[tuple[str, str]]:
    """Classify images and write a row for each, in order; returns (name, reason) of those that could not be read.

    A row of an unreadable image has no answers and says why in the column ``error``.
    """
    unreadable: list[tuple[str, str]] = []

    def rows() -> Iterator[list[str]]:
        start = 0
        for answers, bad in model.predict_batches(files, batch_size, workers):
            reasons = {row - start: reason for row, reason in bad}
            unreadable.extend((names[row], reason) for row, reason in bad)
            for index, row in enumerate(answer_rows(answers, top)):
                blank = [""] * len(row)
                yield [names[start + index], *(blank if index in reasons else row), reasons.get(index, "")]
            start += len(answers.probabilities)
            on_rows(len(answers.probabilities))

    write_answers(out, rows(), top, ("error",))
    return unreadable


def predict_domain(model: AdaptedModel, store: FeatureStore, name: str, out: Path, *, top: int = 1) -> int:
    """Classify a domain's cached features; needs neither images nor encoder weights. Returns the number of rows.

    Raises:
        StaleCacheError: features of another encoder than the model's.
    """
    parts = store.spec.parts(name) if name in store.spec.domains else (name,)  # a split may be named itself
    domain = store.domain(*parts)
    if difference := differing_field(domain.encoder, model.identity):
        field, got, wanted = difference
        raise StaleCacheError(
            f"{store.folder / name} was not encoded by the run's encoder: {field}", expected=wanted, got=got
        )
    answers = model.answer(domain.features)
    rows = ([path, *row] for path, row in zip(domain.paths, answer_rows(answers, top), strict=True))
    write_answers(out, rows, top)
    return len(domain.paths)


def answer_rows(answers: Answers, top: int) -> Iterator[list[str]]:
    """Everything but the path of each row: answers of ensemble, VAC and LAC, then places 2 to ``top``."""
    branches = [
        zip(best.indices.tolist(), best.values.tolist(), strict=True)
        for best in (values.max(-1) for values in (answers.probabilities, answers.vac, answers.lac))
    ]
    for first, vac, lac, ranked in zip(*branches, answers.top(top), strict=True):
        row = [part for k, p in (first, vac, lac) for part in (answers.classes[k], f"{p:.6f}")]
        yield row + [part for name, p in ranked[1:] for part in (name, f"{p:.6f}")]


def write_answers(out: Path, rows: Iterable[list[str]], top: int, more: tuple[str, ...] = ()) -> None:
    """Write the table whole or not at all, over nothing but an earlier one. Raises UserError for any other file."""
    refuse_foreign_file(out, ",".join(PREDICTION_COLUMNS), "a table of answers", "--out")
    head = [
        *PREDICTION_COLUMNS,
        *(name for place in range(2, top + 1) for name in (f"class_{place}", f"probability_{place}")),
    ]
    with replacing(out) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*head, *more])
        writer.writerows(rows)
