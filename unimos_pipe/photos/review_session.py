"""State of a review: photos with predictions, typed labels, undo, and the accuracy on what is labelled."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unimos_pipe.base.errors import InputError
from unimos_pipe.base.safe_open import reading
from unimos_pipe.data.manifest import UNKNOWN_CLASS
from unimos_pipe.photos.label_sample import is_like_random
from unimos_pipe.photos.run_photos import RunPhotos
from unimos_pipe.runs.statistics import wilson_interval


@dataclass(frozen=True)
class Decision:
    """A label that was set: row number, label before and after."""

    row: int
    before: str
    after: str


@dataclass(frozen=True)
class ReviewScores:
    """Counts of labelled photos, and the accuracy of predictions on them with its 95% Wilson interval, fractions."""

    photos: int
    labelled: int
    correct: int
    accuracy: float | None
    low: float | None
    high: float | None
    like_random: bool = True  # False: the labelled photos are surer, or less sure, than all


class ReviewSession:
    """A review of a run's photos. Every decision is in the label file when its method returns.

    Labels that another process writes to the file are taken in by :meth:`changes_since`. All methods are thread-safe.
    """

    def __init__(self, photos: RunPhotos):
        if photos.labels is None:
            raise InputError(
                f"the target {photos.run.spec.target} of {photos.run.folder} has no label file",
                expected="a CSV of paths and classes that the data set's spec names",
                todo="Scan the photos, which writes both",
            )
        self.photos = photos
        self._file = photos.labels
        self._lock = threading.RLock()
        self._rows = {photo.path: row for row, photo in enumerate(photos.photos)}
        self._stamp = self._file_stamp()
        self._labels = self._read_labels()
        self._changed: list[int] = []  # row numbers in the order in which their labels changed
        self._decisions: list[Decision] = []

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes that can be typed: the data set's, in label order."""
        return self._file.classes

    @property
    def decisions(self) -> int:
        """Number of decisions of this session that were not undone."""
        return len(self._decisions)

    def path(self, row: int) -> Path | None:
        """Return the file of a photo by its row number, or None if there is no such row."""
        in_range = 0 <= row < len(self.photos.photos)
        return self.photos.folder / self.photos.photos[row].path if in_range else None

    def table(self) -> dict[str, Any]:
        """Return all photos as columns, with class numbers into ``classes``: -1 is unknown, None no label.

        ``place`` is the row of the label file; it was ``reordered`` if these differ from the order of the predictions.
        """
        photos = self.photos.photos
        names = list(dict.fromkeys([*self.classes, *self.photos.run.classes]))
        numbers: dict[str, int | None] = {name: number for number, name in enumerate(names)}
        numbers |= {UNKNOWN_CLASS: -1, "": None}
        places = {path: place for place, path in enumerate(self._file.read())}
        order = [places.get(photo.path, len(places)) for photo in photos]
        with self._lock:
            labels = [numbers[label] for label in self._labels]
            version = len(self._changed)
        return {
            "classes": names,
            "allowed": len(self.classes),
            "version": version,
            "paths": [photo.path for photo in photos],
            "predicted": [numbers[photo.predicted] for photo in photos],
            "probability": [photo.probability for photo in photos],
            "closest": [numbers[photo.known_class] for photo in photos],
            "unknown": [photo.unknown_score for photo in photos],
            "differ": [photo.branches_differ for photo in photos],
            "branches": [[numbers[name] for name in photo.branches] for photo in photos],
            "labels": labels,
            "place": order,
            "reordered": order != sorted(order),
        }

    def decide(self, row: int, label: str) -> Decision:
        """Write a label to the label file: a class, UNKNOWN_CLASS, or '' to clear it.

        Raises:
            InputError: no such row or class, or the label file does not list the photo.
        """
        with self._lock:
            decision = self._write(row, label)
            self._decisions.append(decision)
        return decision

    def undo(self) -> Decision | None:
        """Restore the label before the last decision of this session; None if there is none.

        A label that was changed since, by another program, is left as it is.
        """
        with self._lock:
            self._take_in_changes()
            while self._decisions:
                decision = self._decisions.pop()
                if self._labels[decision.row] == decision.after:
                    return self._write(decision.row, decision.before)
        return None

    def changes_since(self, version: int) -> tuple[int, dict[int, str]]:
        """Return the current version, and the labels by row that changed since an earlier one."""
        with self._lock:
            self._take_in_changes()
            rows = self._changed[max(version, 0) :]
            return len(self._changed), {row: self._labels[row] for row in rows}

    def scores(self) -> ReviewScores:
        """Return the scores of the labels so far."""
        with self._lock:
            pairs = [(photo.predicted, label) for photo, label in zip(self.photos.photos, self._labels, strict=True)]
        typed = [(predicted, label) for predicted, label in pairs if label]
        correct = sum(predicted == label for predicted, label in typed)
        if not typed:
            return ReviewScores(len(pairs), 0, 0, None, None, None)
        accuracy = correct / len(typed)
        probabilities = [photo.probability for photo in self.photos.photos]
        like_random = is_like_random(probabilities, [bool(label) for _, label in pairs])
        interval = wilson_interval(accuracy, len(typed))
        return ReviewScores(len(pairs), len(typed), correct, accuracy, *interval, like_random)

    def _write(self, row: int, label: str) -> Decision:
        if not 0 <= row < len(self._labels):
            raise InputError(f"no photo {row}", expected=f"0 to {len(self._labels) - 1}")
        path = self.photos.photos[row].path
        self._take_in_changes()
        before = self._file.set({path: label})[path]
        self._stamp = self._file_stamp()  # own changes need no reading
        self._labels[row] = label
        self._changed.append(row)
        return Decision(row, before, label)

    def _read_labels(self) -> list[str]:
        labels = self.photos.read_labels()
        return [labels.get(photo.path, "") for photo in self.photos.photos]

    def _take_in_changes(self) -> None:
        """Read the label file again if it was written since, by whomever."""
        stamp = self._file_stamp()
        if stamp == self._stamp:
            return
        labels = self._read_labels()
        self._changed += [row for row, label in enumerate(labels) if label != self._labels[row]]
        self._labels, self._stamp = labels, stamp

    def _file_stamp(self) -> tuple[int, int, int]:
        with reading(self._file.path):
            status = self._file.path.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns
