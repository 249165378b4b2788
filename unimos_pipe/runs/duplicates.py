"""Images of a data set whose features are equal or nearly so, and a run's accuracy without them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, islice
from pathlib import Path

import numpy as np

from unimos_pipe.base.errors import InputError, StaleCacheError
from unimos_pipe.cache.feature_set import FeatureSet, feature_set
from unimos_pipe.data.dataset_check import Finding
from unimos_pipe.data.manifest import NO_LABEL
from unimos_pipe.runs.read_run import read_run
from unimos_pipe.runs.write_run import LABEL_COLUMN

MIN_COSINE = 0.98  # of 1,993 photographs of Caltech-101, 3% have a partner above it, all of their own class
BLOCK_ROWS = 1024
MAX_PAIRS = 100_000  # of which no more are looked for: n equal images have n (n - 1) / 2


@dataclass(frozen=True)
class DuplicateImage:
    """An image of a domain, and its class if it has one."""

    domain: str
    path: str
    label: str

    def __str__(self) -> str:
        return f"{self.domain}/{self.path}" + (f" ({self.label})" if self.label else "")


@dataclass(frozen=True)
class DuplicatePair:
    """Two images with the cosine of their features; 1 for equal ones."""

    first: DuplicateImage
    second: DuplicateImage
    cosine: float

    @property
    def across(self) -> bool:
        """True if the images are of two domains."""
        return self.first.domain != self.second.domain

    @property
    def contradictory(self) -> bool:
        """True if the images have two classes."""
        return bool(self.first.label and self.second.label) and self.first.label != self.second.label

    def __str__(self) -> str:
        return f"{self.first} = {self.second}, cosine {self.cosine:.3f}"


@dataclass(frozen=True)
class DuplicateScores:
    """Accuracy of a run on the labelled rows of its target, with and without those that its source has, too."""

    labelled: int
    in_source: int
    accuracy: float | None
    accuracy_without: float | None  # None if no row is left

    def __str__(self) -> str:
        if self.accuracy is None:
            return "accuracy: no image of the target has a label"
        rest = "no image is left" if self.accuracy_without is None else f"{100 * self.accuracy_without:.1f}%"
        return (
            f"accuracy: {100 * self.accuracy:.1f}% of {self.labelled} labelled images; "
            f"without the {self.in_source} that the source has, too: {rest}"
        )


@dataclass(frozen=True)
class Duplicates:
    """Result of :func:`find_duplicates`: the pairs, the nearest first; domains without features; a run's scores."""

    pairs: tuple[DuplicatePair, ...]
    missing_domains: tuple[str, ...]
    scores: DuplicateScores | None

    def findings(self) -> tuple[Finding, ...]:
        """Return the pairs as findings of a check, and domains without features."""
        places = {
            "nearly equal images of two classes": [pair for pair in self.pairs if pair.contradictory],
            "nearly equal images of two domains": [pair for pair in self.pairs if pair.across],
            "nearly equal images of a domain": [pair for pair in self.pairs if not pair.across],
            "no features in the cache": self.missing_domains,
        }
        return tuple(Finding(kind, False, tuple(map(str, items))) for kind, items in places.items() if items)


def find_duplicates(
    features: str | FeatureSet, *, min_cosine: float = MIN_COSINE, run: str | Path | None = None
) -> Duplicates:
    """Find images of equal or nearly equal features, within and across the domains of a data set.

    Args:
        features: cached features, or a data set whose default features are used.
        min_cosine: the smallest cosine of two features that counts.
        run: a finished run of this data set, to be scored with and without the target's images that its source has.
    Raises:
        InputError: no cached features, or a folder that is no finished run of this data set.
        StaleCacheError: damaged features.
    """
    features = feature_set(features) if isinstance(features, str) else features
    spec, store = features.dataset, features.store()
    domains, missing = {}, []
    for name in spec.domains:
        try:
            domains[name] = store.domain(*spec.parts(name))
        except StaleCacheError:
            raise
        except InputError:  # not extracted
            missing.append(name)
    images = [
        DuplicateImage(name, path, "" if label == NO_LABEL else spec.classes[label])
        for name, domain in domains.items()
        for path, label in zip(domain.paths, domain.labels.tolist(), strict=True)
    ]
    rows = np.concatenate([domain.features for domain in domains.values()]) if domains else np.empty((0, 1), np.float16)
    nearest = islice(near_pairs(rows, min_cosine), MAX_PAIRS)
    pairs = [DuplicatePair(images[i], images[j], cosine) for i, j, cosine in nearest]
    pairs.sort(key=lambda pair: -pair.cosine)
    return Duplicates(tuple(pairs), tuple(missing), None if run is None else _score(Path(run), spec.cache_name, pairs))


def near_pairs(features: np.ndarray, min_cosine: float) -> Iterator[tuple[int, int, float]]:
    """Yield (i, j, cosine), i < j, of the rows of (n, D) unit-norm features whose cosine is at least ``min_cosine``.

    The time is quadratic in n, the memory is that of the rows in float32 and a block of cosines.
    """
    rows = features.astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    starts = range(0, len(rows), BLOCK_ROWS)
    for top, left in combinations_with_replacement(starts, 2):
        cosines = rows[top : top + BLOCK_ROWS] @ rows[left : left + BLOCK_ROWS].T
        near = cosines >= min_cosine
        for i, j in np.argwhere(np.triu(near, 1) if top == left else near).tolist():
            yield top + i, left + j, min(1.0, float(cosines[i, j]))


def _score(folder: Path, dataset: str, pairs: Sequence[DuplicatePair]) -> DuplicateScores:
    run = read_run(folder)
    if run.spec.dataset != dataset:
        raise InputError(f"{folder} is a run of another data set", expected=dataset, got=run.spec.dataset)
    sources, target = set(run.spec.source.split("+")), run.spec.target
    in_source = {
        image.path
        for pair in pairs
        for image, other in ((pair.first, pair.second), (pair.second, pair.first))
        if image.domain == target and other.domain in sources
    }
    rows = [row for row in run.predictions if row.get(LABEL_COLUMN)]
    right = {row["path"]: row["class"] == row[LABEL_COLUMN] for row in rows}
    rest = [correct for path, correct in right.items() if path not in in_source]
    return DuplicateScores(len(right), len(right) - len(rest), _mean(list(right.values())), _mean(rest))


def _mean(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None
