"""Sensitivity to the options that a sweep's grid varies (the paper's figure 5)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from unimos_pipe.report.experiment import Experiment
from unimos_pipe.report.setting_names import is_default_setting, setting_name, varied_options
from unimos_pipe.report.significance import paired_difference
from unimos_pipe.report.table import Table, change_cell, mean_cell, name_cell
from unimos_pipe.runs.read_run import FinishedRun
from unimos_pipe.runs.statistics import mean_and_std

Places = dict[tuple[str, int], FinishedRun]  # by pair and seed


@dataclass(frozen=True)
class Sensitivity:
    """Mean accuracy in % over two options; rows are the second one's values, columns the first one's."""

    values: np.ndarray  # (R, C), NaN where no run is
    rows: list[str]
    columns: list[str]
    labels: tuple[str, str]


def cells(experiment: Experiment) -> tuple[list[str], dict[str, Places]]:
    """The options that vary, and by label the main variant's runs of the pairs and seeds that every cell has."""
    main = next(run for run in experiment.runs if run.label == experiment.default_setting)
    runs = [run for run in experiment.runs if _variant(run) == _variant(main)]
    found: dict[str, Places] = {}
    for run in runs:
        found.setdefault(run.label, {})[run.pair, run.spec["seed"]] = run
    common = sorted(set.intersection(*map(set, found.values())))
    if len(found) < 2 or not common:
        return [], {}
    return varied_options(runs), {label: {place: places[place] for place in common} for label, places in found.items()}


def _variant(run: FinishedRun) -> tuple[str, str, str]:
    return run.method, run.spec["variant"], run.spec["protocol"]


def sensitivity_table(experiment: Experiment) -> Table | None:
    """Every cell of the grid with its mean accuracy, and the gain over the default one; None without a grid."""
    options, found = cells(experiment)
    if not options:
        return None
    default = next(
        (label for label, places in found.items() if is_default_setting(_first(places), options, experiment.recipe)),
        None,
    )
    rows = []
    for label, places in found.items():
        name = setting_name(_first(places), options)
        against = None
        if default is not None and label != default:
            both = ((place, run.score("last"), found[default][place].score("last")) for place, run in places.items())
            against = paired_difference((*place, ours, other) for place, ours, other in both)
        mean = mean_and_std((*place, run.score("last")) for place, run in places.items())
        rows.append(
            (name_cell(f"{name} (default)" if label == default else name), mean_cell(mean), change_cell(against))
        )
    places = next(iter(found.values()))
    pairs, seeds = {pair for pair, _ in places}, {seed for _, seed in places}
    how = (
        f"{experiment.metric_name} in % by {' and '.join(options)}, mean over the {len(pairs)} pair(s) and "
        f"{len(seeds)} seed(s) that every cell has, ± over seeds; the difference is against the default cell."
    )
    return Table("sensitivity", "Sensitivity", how, ("setting", "accuracy", "vs default"), tuple(rows))


def _first(places: Places) -> FinishedRun:
    return next(iter(places.values()))


def sensitivity(experiment: Experiment) -> Sensitivity | None:
    """The grid as a map, if it varies exactly two options."""
    options, found = cells(experiment)
    if len(options) != 2:
        return None
    first, second = options
    chosen = {label: [_first(places).option(name) for name in options] for label, places in found.items()}
    columns = sorted({value for value, _ in chosen.values()}, key=_order)
    rows = sorted({value for _, value in chosen.values()}, key=_order)
    values = np.full((len(rows), len(columns)), np.nan)
    for label, (column, row) in chosen.items():
        scores = ((*place, run.score("last")) for place, run in found[label].items())
        values[rows.index(row), columns.index(column)] = 100 * mean_and_std(scores).mean
    return Sensitivity(values, [str(v) for v in rows], [str(v) for v in columns], (second, first))


def _order(value: Any) -> tuple[str, Any]:
    return ("number", float(value)) if isinstance(value, int | float) else ("text", str(value))
