"""Photos of a finished run in a folder for each class, as links or copies; the originals are only read."""

import csv
import io
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unimos_pipe.base.atomic_io import check_owned_file, check_writable_folder, write_text
from unimos_pipe.base.csv_escaping import escape_name, escape_path
from unimos_pipe.base.errors import Argument, InputError, short_repr
from unimos_pipe.base.locks import writer_lock
from unimos_pipe.base.progress import NO_PROGRESS, ProgressReporter
from unimos_pipe.photos.run_photos import RunPhotos, load_run_photos
from unimos_pipe.photos.safe_names import folder_names, link_names
from unimos_pipe.photos.sorted_folder import RECORD, Changes, update_folder
from unimos_pipe.photos.sorting_rules import (
    REVIEW,
    UNKNOWN,
    Choice,
    choose_folders,
    count_label_errors,
    expected_error,
    folder_of,
    precision_threshold,
)

TABLE = "sorted.csv"
COLUMNS = ("path", "sorted_as", "class", "probability", "label", "reason")


@dataclass(frozen=True, kw_only=True)
class SortOptions:
    """Options of :func:`sort_photos`; at most one of ``review_below`` and ``precision`` is given."""

    copy: bool = False  # copies instead of links
    review_below: float | None = None  # predictions of a lower probability go to review/
    precision: float | None = None  # the largest set whose expected precision is at least this is sorted

    def __post_init__(self):
        faults = [
            (Argument(name, value), ": expected 0 to 1")
            for name, value in (("review_below", self.review_below), ("precision", self.precision))
            if value is not None and not 0 <= value <= 1
        ]
        if faults:
            raise InputError(faults[0])
        if self.review_below is not None and self.precision is not None:
            raise InputError((Argument("review_below"), " and ", Argument("precision"), " exclude each other"))


@dataclass(frozen=True)
class SortResult:
    """Result of :func:`sort_photos`.

    Attributes:
        table: CSV with a row for each photo.
        counts: number of photos placed in each subfolder, largest first.
        labelled: number of photos placed by a typed label.
        threshold: lowest probability of a photo sorted by its prediction; None without one, infinity if none is.
        expected_error: expected share of errors among the photos sorted by predictions; None without calibrated
            probabilities or without such photos.
        basis: what the probabilities were calibrated to: ``source``, ``estimate``, or '' without calibration.
        label_errors: number of labelled photos whose prediction would have been sorted into a wrong class, and into
            any class.
        changes: links or copies that were added, removed, kept, blocked or left.
        missing: paths of photos whose file is not there; they are in no folder.
        not_predicted: number of photos in the label file that the run does not have.
    """

    folder: Path
    table: Path
    photos: int
    counts: dict[str, int]
    labelled: int
    threshold: float | None
    expected_error: float | None
    basis: str
    label_errors: tuple[int, int]
    changes: Changes
    missing: tuple[str, ...]
    not_predicted: int


def sort_photos(
    run: str | Path,
    to: str | Path,
    options: SortOptions = SortOptions(),
    *,
    root: str | Path | None = None,
    cache: Path | None = None,
    reporter: ProgressReporter = NO_PROGRESS,
) -> SortResult:
    """Put the photos of a run's target into a folder for each class below ``to``, as links or copies.

    A typed label wins over the prediction. Photos of no class go to ``unknown``, photos below the threshold to
    ``review``. The originals are neither moved nor changed. The call can be repeated, for example after corrections:
    only links and copies that an earlier call made are moved or removed.

    Args:
        run: folder of a finished run.
        root: folder of the photos; None takes what the data set's spec names.
        cache: where embedded images are unpacked.
    Raises:
        InputError: no finished run, photos or labels that are not found, probabilities that are not calibrated, or
            ``to`` in or around a folder of images.
    """
    to = Path(to)
    photos = load_run_photos(Path(run), Path(root) if root else None, cache)
    check_apart(to, _image_folders(photos))
    threshold = _find_threshold(photos, options)
    labels = photos.read_labels()
    choices = choose_folders(photos.photos, labels, -math.inf if threshold is None else threshold)
    places, missing = _find_places(photos, choices)
    check_writable_folder(to, "to")
    check_owned_file(to / TABLE, ",".join(COLUMNS), "a table of sorted photos", "to")
    wanted = {place: photos.folder / path for path, place in places.items()}
    with writer_lock(to / RECORD), reporter.progress("sort", len(wanted), "photos") as advance:
        changes = update_folder(to, wanted, copy=options.copy, on_files=advance)
        blocked = {*changes.blocked}
        placed = {path: place for path, place in places.items() if place not in blocked}
        write_text(to / TABLE, _table_text(choices, placed))
    counts = Counter(place.partition("/")[0] for place in placed.values())
    known = {photo.path for photo in photos.photos}
    return SortResult(
        folder=to,
        table=to / TABLE,
        photos=len(choices),
        counts=dict(counts.most_common()),
        labelled=sum(bool(choice.label) and choice.photo.path in placed for choice in choices),
        threshold=threshold,
        expected_error=expected_error(choices) if photos.calibrated else None,
        basis=photos.run.result.calibration.basis if photos.run.result.calibration else "",
        label_errors=count_label_errors(choices, -math.inf if threshold is None else threshold),
        changes=changes,
        missing=tuple(missing),
        not_predicted=sum(path not in known for path in photos.labels.read()) if photos.labels else 0,
    )


def _image_folders(photos: RunPhotos) -> list[Path]:
    """Return the folder of a run's photos and those of all domains of its data set."""
    spec = photos.spec
    roots = [spec.base / entry.root for entry in spec.domains.values() if entry.root] if spec else []
    return [photos.folder, *roots]


def check_apart(to: Path, folders: Iterable[Path]) -> None:
    """Raise InputError if a folder of images is in ``to``, or around it: links would be taken for images."""
    place = _real_path(to)
    for folder in map(_real_path, folders):
        if place.is_relative_to(folder) or folder.is_relative_to(place):
            raise InputError(
                (Argument("to"), f" {short_repr(str(to))}"),
                expected="a folder apart from the images",
                got=f"one {'in' if place.is_relative_to(folder) else 'around'} {folder}",
            )


def _real_path(path: Path) -> Path:
    return Path(os.path.realpath(path))  # of a link to itself the path; Path.resolve raises


def _find_threshold(photos: RunPhotos, options: SortOptions) -> float | None:
    if options.precision is None:
        return options.review_below
    if not photos.calibrated:
        raise InputError(
            (Argument("precision"), f": the probabilities of {photos.run.folder} are not calibrated"),
            todo=("Adapt again with ", Argument("calibrate", True), ", or say ", Argument("review_below")),
        )
    labels = photos.read_labels()
    open_photos = [photo for photo in photos.photos if photo.path not in labels and photo.predicted in photos.classes]
    return precision_threshold([photo.probability for photo in open_photos], options.precision)


def _find_places(photos: RunPhotos, choices: Sequence[Choice]) -> tuple[dict[str, str], list[str]]:
    """Return ``folder/name`` of each photo by path, and the paths of photos that are not there."""
    names = link_names([choice.photo.path for choice in choices])
    folders = folder_names(photos.classes, (REVIEW, UNKNOWN))
    places, missing = {}, []
    for choice in choices:
        path = choice.photo.path
        if (photos.folder / path).is_file():
            places[path] = f"{folder_of(choice, folders)}/{names[path]}"
        else:
            missing.append(path)
    return places, missing


def _table_text(choices: Sequence[Choice], placed: Mapping[str, str]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows(_table_rows(choices, placed))
    return text.getvalue()


def _table_rows(choices: Sequence[Choice], placed: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    for choice in choices:
        photo = choice.photo
        cells = escape_name(photo.predicted), f"{photo.probability:.6f}", escape_name(choice.label), choice.reason
        yield escape_path(photo.path), escape_path(placed.get(photo.path, "")), *cells
