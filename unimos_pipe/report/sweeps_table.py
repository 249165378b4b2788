"""Comparison table of several sweeps."""

from collections.abc import Sequence

from unimos_pipe.report.experiment import Experiment
from unimos_pipe.report.headline import gain_over_baseline, mean_baseline
from unimos_pipe.report.setting_names import BASELINES
from unimos_pipe.report.table import Cell, Table, change_cell, mean_cell, name_cell, text_cell

COLUMNS = ("sweep", "data set", "encoder", "method", "pairs", "seeds", "accuracy", *BASELINES, "gain")


def sweeps_table(experiments: Sequence[Experiment]) -> Table:
    """Return a row for each method of each experiment; without target labels its scores are dashes."""
    rows = []
    for experiment in experiments:
        for label in (*experiment.headline_settings, *experiment.compared_settings):
            pairs = experiment.pairs_of(label)
            seeds = len({run.spec.seed for run in experiment.runs_of(label)})
            rows.append(
                (
                    name_cell(experiment.title),
                    *(
                        text_cell(text)
                        for text in (experiment.dataset, experiment.model, experiment.display_names[label])
                    ),
                    *(Cell(str(count), count, kind="count") for count in (len(pairs), seeds)),
                    mean_cell(experiment.mean("last", label, pairs), "main"),
                    *(mean_cell(mean_baseline(experiment, name, pairs)) for name in BASELINES),
                    change_cell(gain_over_baseline(experiment, label, pairs)),
                )
            )
    caption = (
        "Accuracy in %, mean over the pairs of each row, ± standard deviation over seeds. Rows are comparable if data "
        "set, encoder and pairs are the same. Gain: difference to the better baseline of the row."
    )
    return Table("sweeps", "Comparison of sweeps", caption, COLUMNS, tuple(rows))
