"""Predictions of a model: probabilities, classes, errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unimos_pipe.base.html_repr import html_table


@dataclass(frozen=True)
class Predictions:
    """Predictions for n images.

    Attributes:
        classes: K class names.
        probabilities: (n, K) float32 on the CPU, calibrated if the model has a temperature.
        raw: (n, K) probabilities before calibration.
        vac, lac: (n, K) probabilities of UniMoS's branches; None for other methods.
        errors: (n,) reason for each unreadable image, whose probabilities are NaN; None for the others.
    """

    classes: tuple[str, ...]
    probabilities: Tensor
    raw: Tensor
    vac: Tensor | None
    lac: Tensor | None
    errors: tuple[str | None, ...]

    def __len__(self) -> int:
        return len(self.errors)

    @property
    def labels(self) -> list[str | None]:
        """n predicted class names; None for an unreadable image."""
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
        for name in ("probabilities", "raw", "vac", "lac")
    ]
    return Predictions(first.classes, *columns, tuple(error for part in parts for error in part.errors))


def with_errors(predictions: Predictions, errors: Sequence[str | None]) -> Predictions:
    """Expand predictions of the readable images to all images, with NaN for those that have an error."""
    readable = torch.tensor([error is None for error in errors], dtype=torch.bool)

    def expand(values: Tensor | None) -> Tensor | None:
        if values is None:
            return None
        expanded = torch.full((len(errors), len(predictions.classes)), float("nan"))
        expanded[readable] = values
        return expanded

    columns = [
        expand(values) for values in (predictions.probabilities, predictions.raw, predictions.vac, predictions.lac)
    ]
    return Predictions(predictions.classes, *columns, tuple(errors))
