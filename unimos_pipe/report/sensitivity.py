"""Sensitivity to the options that a sweep's grid varies (figure 5 of the paper)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from unimos_pipe.report.experiment import Experiment
from unimos_pipe.report.setting_names import format_options, is_default_setting, varied_options
from unimos_pipe.report.significance import paired_difference
from unimos_pipe.report.table import Table, change_cell, mean_cell, name_cell
from unimos_pipe.runs.read_run import FinishedRun
from unimos_pipe.runs.statistics import mean_and_std

RunsByPairAndSeed = dict[tuple[str, int], FinishedRun]  # key: (pair, seed)


@dataclass(frozen=True)
class Sensitivity:
    """Mean accuracy in % by two options: rows are values of the second, columns of the first."""

    values: np.ndarray  # (R, C), NaN without a run
    rows: list[str]
    columns: list[str]
    labels: tuple[str, str]


def grid_runs(experiment: Experiment) -> tuple[list[str], dict[str, RunsByPairAndSeed]]:
    """Return the varied options, and label -> runs of the pairs and seeds that all configurations have."""
    default_run = next(run for run in experiment.runs if run.label == experiment.default_setting)
    runs = [run for run in experiment.runs if _variant(run) == _variant(default_run)]
    runs_by_label: dict[str, RunsByPairAndSeed] = {}
    for run in runs:
        runs_by_label.setdefault(run.label, {})[run.pair, run.spec.seed] = run
    common = sorted(set.intersection(*map(set, runs_by_label.values())))
    if len(runs_by_label) < 2 or not common:
        return [], {}
    return varied_options(runs), {
        label: {key: label_runs[key] for key in common} for label, label_runs in runs_by_label.items()
    }


def _variant(run: FinishedRun) -> tuple[str, str, str]:
    return run.method, run.spec.variant, run.spec.protocol


def sensitivity_table(experiment: Experiment) -> Table | None:
    """Return the table of mean accuracy by configuration, with the difference to the default; None without a grid."""
    options, runs_by_label = grid_runs(experiment)
    if not options:
        return None
    default = next(
        (
            label
            for label, label_runs in runs_by_label.items()
            if is_default_setting(_any_run(label_runs), options, experiment.recipe)
        ),
        None,
    )
    rows = []
    for label, label_runs in runs_by_label.items():
        name = format_options(_any_run(label_runs), options)
        difference = None
        if default is not None and label != default:
            compared = (
                (key, run.score("last"), runs_by_label[default][key].score("last")) for key, run in label_runs.items()
            )
            difference = paired_difference((*key, ours, other) for key, ours, other in compared)
        mean = mean_and_std((*key, run.score("last")) for key, run in label_runs.items())
        rows.append(
            (name_cell(f"{name} (default)" if label == default else name), mean_cell(mean), change_cell(difference))
        )
    label_runs = next(iter(runs_by_label.values()))
    pairs, seeds = {pair for pair, _ in label_runs}, {seed for _, seed in label_runs}
    caption = (
        f"{experiment.metric_name} in % by {' and '.join(options)}, mean over the {len(pairs)} pair(s) and "
        f"{len(seeds)} seed(s) that all configurations have, ± standard deviation over seeds; the difference is to the "
        "default."
    )
    return Table("sensitivity", "Sensitivity", caption, ("setting", "accuracy", "vs default"), tuple(rows))


def _any_run(label_runs: RunsByPairAndSeed) -> FinishedRun:
    return next(iter(label_runs.values()))


def sensitivity_grid(experiment: Experiment) -> Sensitivity | None:
    """Return the grid as a matrix; None unless it varies exactly two options."""
    options, runs_by_label = grid_runs(experiment)
    if len(options) != 2:
        return None
    first, second = options
    values_by_label = {
        label: [_any_run(label_runs).option(name) for name in options] for label, label_runs in runs_by_label.items()
    }
    columns = sorted({value for value, _ in values_by_label.values()}, key=_sort_key)
    rows = sorted({value for _, value in values_by_label.values()}, key=_sort_key)
    values = np.full((len(rows), len(columns)), np.nan)
    for label, (column, row) in values_by_label.items():
        scores = ((*key, run.score("last")) for key, run in runs_by_label[label].items())
        values[rows.index(row), columns.index(column)] = 100 * mean_and_std(scores).mean
    return Sensitivity(values, [str(v) for v in rows], [str(v) for v in columns], (second, first))


def _sort_key(value: Any) -> tuple[str, Any]:
    return ("number", float(value)) if isinstance(value, int | float) else ("text", str(value))
