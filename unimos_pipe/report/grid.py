"""Sensitivity to the options that a sweep's grid varies (the paper's figure 5)."""

import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np

from unimos_pipe.report.runs import Experiment
from unimos_pipe.report.tables import Table, mean_cell, name_cell


@dataclass(frozen=True)
class Sensitivity:
    """Mean accuracy in % over two options; rows are the second one's values, columns the first one's."""

    values: np.ndarray  # (R, C), NaN where no run is
    rows: list[str]
    columns: list[str]
    labels: tuple[str, str]


def cells(experiment: Experiment) -> dict[tuple[tuple[str, Any], ...], list[float]]:
    """Accuracies of the main variant by the grid's settings, over the pairs and seeds that every cell has."""
    variant = next(run.spec["variant"] for run in experiment.runs if run.label == experiment.main)
    runs = [run for run in experiment.runs if run.spec["variant"] == variant]
    varied = {name for run in runs for name in run.spec["changed"]}
    by_cell: dict[tuple, dict[tuple, float]] = {}
    for run in runs:
        changed = run.spec["changed"]
        if varied and set(changed) == varied:
            place = run.pair, run.spec["seed"]
            by_cell.setdefault(tuple(changed.items()), {})[place] = run.accuracy("last")
    if len(by_cell) < 2:
        return {}
    common = set.intersection(*(set(found) for found in by_cell.values()))
    return {cell: [found[place] for place in sorted(common)] for cell, found in by_cell.items() if common}


def grid_table(experiment: Experiment) -> Table | None:
    """Every cell of the grid with its mean accuracy; None without a grid."""
    found = cells(experiment)
    if not found:
        return None
    names = [name for name, _ in next(iter(found))]
    rows = [
        (name_cell(", ".join(f"{name.rpartition('.')[2]} = {value}" for name, value in cell)), mean_cell(values))
        for cell, values in found.items()
    ]
    count = len(next(iter(found.values())))
    return Table(
        "sensitivity",
        "Sensitivity",
        f"Accuracy in % by {' and '.join(names)}, mean ± standard deviation over the {count} run(s) of every cell.",
        ("setting", "accuracy"),
        tuple(rows),
    )


def sensitivity(experiment: Experiment) -> Sensitivity | None:
    """The grid as a map, if it varies exactly two options."""
    found = {cell: 100 * statistics.mean(values) for cell, values in cells(experiment).items()}
    if not found or len(next(iter(found))) != 2:
        return None
    first, second = (name for name, _ in next(iter(found)))
    columns = sorted({dict(cell)[first] for cell in found}, key=_order)
    rows = sorted({dict(cell)[second] for cell in found}, key=_order)
    values = np.full((len(rows), len(columns)), np.nan)
    for cell, value in found.items():
        chosen = dict(cell)
        values[rows.index(chosen[second]), columns.index(chosen[first])] = value
    return Sensitivity(values, [str(v) for v in rows], [str(v) for v in columns], (second, first))


def _order(value: Any) -> tuple[str, Any]:
    return ("number", float(value)) if isinstance(value, int | float) else ("text", str(value))
