"""Sensitivity to the options that a sweep's grid varies (the paper's figure 5)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from unimos_pipe.report.runs import Experiment
from unimos_pipe.report.tables import Table, mean_cell, name_cell
from unimos_pipe.runs.means import mean_and_spread
from unimos_pipe.runs.stored import Run


@dataclass(frozen=True)
class Sensitivity:
    """Mean accuracy in % over two options; rows are the second one's values, columns the first one's."""

    values: np.ndarray  # (R, C), NaN where no run is
    rows: list[str]
    columns: list[str]
    labels: tuple[str, str]


def cells(experiment: Experiment) -> dict[tuple[tuple[str, Any], ...], list[tuple[str, int, float]]]:
    """(pair, seed, accuracy) of the main variant by the options that vary, of the pairs and seeds every cell has."""
    main = next(run for run in experiment.runs if run.label == experiment.main)
    runs = [run for run in experiment.runs if _variant(run) == _variant(main)]
    names = dict.fromkeys(name for run in runs for name in run.spec["changed"])
    varied = [name for name in names if len({repr(run.option(name)) for run in runs}) > 1]
    by_cell: dict[tuple, dict[tuple, float]] = {}
    for run in runs:
        cell = tuple((name, run.option(name)) for name in varied)
        by_cell.setdefault(cell, {})[run.pair, run.spec["seed"]] = run.accuracy("last")
    if len(by_cell) < 2:
        return {}
    common = set.intersection(*(set(found) for found in by_cell.values()))
    places = sorted(common)
    return {cell: [(*place, found[place]) for place in places] for cell, found in by_cell.items() if places}


def _variant(run: Run) -> tuple[str, str]:
    return run.spec["variant"], run.spec["protocol"]


def grid_table(experiment: Experiment) -> Table | None:
    """Every cell of the grid with its mean accuracy; None without a grid."""
    found = cells(experiment)
    if not found:
        return None
    names = [name for name, _ in next(iter(found))]
    rows = [
        (
            name_cell(", ".join(f"{name.rpartition('.')[2]} = {value}" for name, value in cell)),
            mean_cell(mean_and_spread(values)),
        )
        for cell, values in found.items()
    ]
    count = len(next(iter(found.values())))
    return Table(
        "sensitivity",
        "Sensitivity",
        f"Accuracy in % by {' and '.join(names)}, mean over the {count} run(s) of every cell, ± over seeds.",
        ("setting", "accuracy"),
        tuple(rows),
    )


def sensitivity(experiment: Experiment) -> Sensitivity | None:
    """The grid as a map, if it varies exactly two options."""
    found = {cell: 100 * mean_and_spread(values).mean for cell, values in cells(experiment).items()}
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
