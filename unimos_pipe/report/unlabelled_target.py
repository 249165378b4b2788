"""Label-free diagnostics of predictions for targets without labels."""

from unimos_pipe.report.experiment import Experiment
from unimos_pipe.report.setting_names import format_pair
from unimos_pipe.report.table import Table, mean_cell, name_cell
from unimos_pipe.runs.method_names import ESTIMATE_ERROR, UNIMOS
from unimos_pipe.runs.read_run import FinishedRun
from unimos_pipe.runs.run_values import Estimate

BRANCHES = "VAC and LAC"  # agreement of the two branches; a column of UniMoS
FIELDS = {  # of an estimate; the other columns are agreements
    "estimated accuracy": "accuracy",
    "from": "low",
    "to": "high",
    BRANCHES: "branches",
    "confidence": "confidence",
    "share distance": "total_variation",
}
COLUMNS = (
    "run",
    "estimated accuracy",
    "from",
    "to",
    BRANCHES,
    "zero-shot",
    "fused",
    "stacked",
    "confidence",
    "share distance",
)


def diagnostics_table(experiment: Experiment) -> Table | None:
    """Return a row for every run whose target has no labels; None if there is none."""
    runs = [run for run in experiment.runs if run.result.accuracy is None]
    if not runs:
        return None
    shown = [name for name in COLUMNS if name != BRANCHES or any(run.method == UNIMOS for run in runs)]
    rows = tuple(
        (name_cell(_row_name(experiment, run)), *(mean_cell(_value(run.result.estimate, name)) for name in shown[1:]))
        for run in runs
    )
    branches = "VAC and LAC: agreement of the two branches. " if BRANCHES in shown else ""
    caption = (
        "In %. Estimated accuracy: from the agreement of similar images and the probability that stacked fusion gives "
        f"to the predictions, with a range ({ESTIMATE_ERROR}); none (–) if these two are more than 20 points apart. "
        f"{branches}Zero-shot, fused, stacked: agreement with the run's predictions; "
        "if below 50, inspect predictions before using them. Confidence: mean probability of the predictions. Share "
        "distance: total variation between the class shares of predictions and source, 0 to 100."
    )
    return Table("diagnostics", "Diagnostics without labels", caption, tuple(shown), rows)


def _row_name(experiment: Experiment, run: FinishedRun) -> str:
    return f"{format_pair(run.pair)}, {experiment.display_names[run.label]}, seed {run.spec.seed}"


def _value(estimate: Estimate, column: str) -> float | None:
    return getattr(estimate, FIELDS[column]) if column in FIELDS else estimate.agreement.get(column)
