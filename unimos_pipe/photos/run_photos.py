"""The photos of a run's target with their predictions, and the labels that a person typed."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from unimos_pipe.base.errors import Argument, InputError
from unimos_pipe.cache.cache_paths import default_cache
from unimos_pipe.data.dataset_spec import DatasetSpec
from unimos_pipe.data.label_file import LabelFile, label_file
from unimos_pipe.data.manifest import UNKNOWN_CLASS
from unimos_pipe.photos.image_folder import find_dataset, find_image_folder
from unimos_pipe.runs.read_run import FinishedRun, read_run


@dataclass(frozen=True)
class Photo:
    """A photo and its prediction.

    ``path`` is POSIX, relative to the image folder. ``predicted`` is a class or UNKNOWN_CLASS. ``branches`` are the
    classes of UniMoS's VAC and LAC, empty for other methods.
    """

    path: str
    predicted: str
    probability: float
    unknown_score: float | None = None
    known_class: str = ""  # the likeliest class, where rows of no class were looked for
    branches: tuple[str, ...] = ()

    @property
    def branches_differ(self) -> bool:
        """True if VAC and LAC predict different classes."""
        return len(set(self.branches)) > 1


@dataclass(frozen=True)
class RunPhotos:
    """The photos of a run in the order of its predictions; ``labels`` is None if the domain has no label file."""

    run: FinishedRun
    spec: DatasetSpec | None  # None if the spec file is not there
    folder: Path
    photos: tuple[Photo, ...]
    labels: LabelFile | None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names: the run's, then those that only the spec has."""
        added = self.spec.classes if self.spec else ()
        return tuple(dict.fromkeys([*self.run.classes, *added]))

    @property
    def calibrated(self) -> bool:
        """True if the run's probabilities are calibrated."""
        return self.run.result.calibration is not None

    def read_labels(self) -> dict[str, str]:
        """Return the typed class of each photo by path, without the empty ones.

        Raises:
            InputError: the label file cannot be read, or has a class that the data set does not have.
        """
        if self.labels is None:
            return {}
        labels = {path: label for path, label in self.labels.read().items() if label}
        known = {*self.classes, UNKNOWN_CLASS}
        if unknown := sorted({label for label in labels.values() if label not in known}):
            raise InputError(
                f"{self.labels.path}: class {unknown[0]!r} is not in the data set",
                todo="Correct it, or add the class to the spec",
            )
        return labels


def load_run_photos(run_folder: Path, root: Path | None = None, cache: Path | None = None) -> RunPhotos:
    """Return the photos of a finished run.

    Args:
        root: folder of the domains' folders, or of the photos; None takes what the data set's spec names.
        cache: where embedded images are unpacked; None takes ``$UNIMOS_CACHE``, else the user's cache folder.
    Raises:
        InputError: no finished run, no image folder, or paths that leave it.
    """
    run = read_run(run_folder)
    spec = find_dataset(run)
    folder = find_image_folder(run, root, cache or default_cache())
    if folder is None:
        recorded = run.result.dataset_file
        raise InputError(
            f"the photos of {run_folder} are not found",
            expected=f"a spec file {recorded} with their folder" if recorded else "their folder",
            todo=("Name the folder with ", Argument("root")),
        )
    photos = tuple(_photo(row) for row in run.predictions)
    for photo in photos:
        path = PurePosixPath(photo.path)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in photo.path:
            raise InputError(f"{run_folder}: {photo.path!r} leaves the image folder")
    return RunPhotos(run, spec, folder.resolve(), photos, _find_labels(spec, run.spec.target))


def _photo(row: dict[str, str]) -> Photo:
    score = row.get("unknown_score")
    branches = tuple(row[name] for name in ("vac", "lac") if name in row)
    return Photo(
        row["path"],
        row["class"],
        float(row["probability"]),
        float(score) if score else None,
        row.get("known_class", ""),
        branches,
    )


def _find_labels(spec: DatasetSpec | None, domain: str) -> LabelFile | None:
    if spec is None or domain not in spec.domains or not spec.domain(domain).manifest:
        return None
    return label_file(spec, domain)
