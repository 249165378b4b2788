"""Predictions of a model: probabilities, classes, errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unimos_pipe.base.html_repr import html_table
from unimos_pipe.data.manifest import UNKNOWN_CLASS


@dataclass(frozen=True)
class Predictions:
    """Predictions for n images.

    Attributes:
        classes: K class names.
        probabilities: (n, K) float32 on the CPU, calibrated if the model has a temperature.
        raw: (n, K) probabilities before calibration.
        vac, lac: (n, K) probabilities of UniMoS's branches; None for other methods.
        errors: (n,) reason for each unreadable image, whose probabilities are NaN; None for the others.
        unknown_scores: (n,) float32, how little each image resembles every class; None if the run did not look for
            images of none of the classes.
        unknown: (n,) bool, the images of none of the classes; None as above.
    """

    classes: tuple[str, ...]
    probabilities: Tensor
    raw: Tensor
    vac: Tensor | None
    lac: Tensor | None
    errors: tuple[str | None, ...]
    unknown_scores: Tensor | None = None
    unknown: Tensor | None = None

    def __len__(self) -> int:
        return len(self.errors)

    @property
    def labels(self) -> list[str | None]:
        """n predicted class names: ``(unknown)`` for none of the classes, None for an unreadable image."""
        unknown = [False] * len(self) if self.unknown is None else self.unknown.tolist()
        names = zip(self.known_labels, unknown, strict=True)
        return [UNKNOWN_CLASS if is_unknown else name for name, is_unknown in names]

    @property
    def known_labels(self) -> list[str | None]:
        """n most likely class names, of images of none of the classes, too; None for an unreadable image."""
        best = self.probabilities.argmax(-1).tolist()
        return [None if error else self.classes[k] for k, error in zip(best, self.errors, strict=True)]

    def top(self, count: int) -> list[list[tuple[str, float]]]:
        """Return the ``count`` most likely classes of each image with their probabilities."""
        best = self.probabilities.topk(min(count, len(self.classes)), dim=-1)
        return [
            [(self.classes[k], p) for k, p in zip(names, values, strict=True)]
            for names, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def records(self) -> list[dict[str, Any]]:
        """Return a dictionary for each image, with the columns of ``predict`` as keys.

        For an unreadable image every value but ``error`` is None. ``pandas.DataFrame(predictions.records())`` is a
        table.
        """
        columns = [("class", "probability", self.probabilities), ("", "raw_probability", self.raw)]
        columns += [(name, f"{name}_probability", getattr(self, name)) for name in ("vac", "lac")]
        records: list[dict[str, Any]] = [{} for _ in self.errors]
        for name, probability, values in columns:
            if values is not None:
                best = values.max(-1)
                for row, k, p, error in zip(
                    records, best.indices.tolist(), best.values.tolist(), self.errors, strict=True
                ):
                    row |= {name: None if error else self.classes[k]} if name else {}
                    row[probability] = None if error else p
        if self.unknown_scores is not None:
            for row, name, known, score in zip(
                records, self.labels, self.known_labels, self.unknown_scores.tolist(), strict=True
            ):
                row |= {"class": name, "unknown_score": None if known is None else score, "known_class": known}
        return [{**row, "error": error} for row, error in zip(records, self.errors, strict=True)]

    def __repr__(self) -> str:
        bad = sum(error is not None for error in self.errors)
        return f"<Predictions: {len(self)} images, {len(self.classes)} classes{f', {bad} unreadable' if bad else ''}>"

    def _repr_html_(self) -> str:
        rows = self.records()
        head = list(rows[0]) if rows else []
        return html_table(repr(self)[1:-1], head, [[_format_value(value) for value in row.values()] for row in rows])


def _format_value(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value)


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """Return the concatenation of several predictions of one model."""
    first = parts[0]
    columns = [
        None if getattr(first, name) is None else torch.cat([getattr(part, name) for part in parts])
        for name in ("probabilities", "raw", "vac", "lac", "unknown_scores", "unknown")
    ]
    errors = tuple(error for part in parts for error in part.errors)
    return Predictions(first.classes, *columns[:4], errors, *columns[4:])


def with_errors(predictions: Predictions, errors: Sequence[str | None]) -> Predictions:
    """Expand predictions of the readable images to all images, with NaN for those that have an error."""
    readable = torch.tensor([error is None for error in errors], dtype=torch.bool)

    def expand(values: Tensor | None, fill: float = float("nan")) -> Tensor | None:
        if values is None:
            return None
        expanded = torch.full((len(errors), *values.shape[1:]), fill, dtype=values.dtype)
        expanded[readable] = values
        return expanded

    columns = [
        expand(values) for values in (predictions.probabilities, predictions.raw, predictions.vac, predictions.lac)
    ]
    unknown = expand(predictions.unknown_scores), expand(predictions.unknown, False)
    return Predictions(predictions.classes, *columns, tuple(errors), *unknown)
