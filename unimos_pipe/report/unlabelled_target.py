"""Label-free diagnostics of predictions for targets without labels."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from unimos_pipe.report.error_analysis import MAX_BARS, MAX_IMAGES, BranchPrediction
from unimos_pipe.report.experiment import Experiment
from unimos_pipe.report.setting_names import format_pair
from unimos_pipe.report.table import Cell, Table, mean_cell, name_cell
from unimos_pipe.runs.method_names import ESTIMATE_ERROR, UNIMOS
from unimos_pipe.runs.read_run import FinishedRun
from unimos_pipe.runs.run_values import Estimate

COLUMNS = (
    "run",
    "estimated accuracy",
    "from",
    "to",
    "VAC and LAC",
    "zero-shot",
    "fused",
    "stacked",
    "confidence",
    "share distance",
)


def diagnostics_table(experiment: Experiment) -> Table | None:
    """Return a row for every run whose target has no labels; None if there is none."""
    runs = [run for run in experiment.runs if run.result.accuracy is None]
    rows = tuple((name_cell(_row_name(experiment, run)), *_estimate_cells(run.result.estimate)) for run in runs)
    if not rows:
        return None
    caption = (
        "In %. Estimated accuracy: from the agreement of similar images and the probability that stacked fusion gives "
        f"to the predictions, with a range ({ESTIMATE_ERROR}); none (–) if these two are more than 20 points apart. "
        "VAC and LAC: agreement of the two branches. Zero-shot, fused, stacked: agreement with the run's predictions; "
        "if below 50, inspect predictions before using them. Confidence: mean probability of the predictions. Share "
        "distance: total variation between the class shares of predictions and source, 0 to 100."
    )
    return Table("diagnostics", "Diagnostics without labels", caption, COLUMNS, rows)


@dataclass(frozen=True)
class UncertainImage:
    """A target image with (branch, prediction, colour name); ``thumbnail`` is a data URL or empty."""

    path: str
    predictions: list[tuple[str, BranchPrediction, str]]
    truth: None = None
    thumbnail: str = ""


def find_uncertain_images(run: FinishedRun, limit: int = MAX_IMAGES) -> list[UncertainImage]:
    """Return the rows whose predictions have the lowest probability, lowest first."""
    rows = sorted(run.predictions, key=lambda row: float(row["probability"]))[:limit]
    return [UncertainImage(row["path"], _branch_predictions(run, row)) for row in rows]


def _branch_predictions(run: FinishedRun, row: Mapping[str, str]) -> list[tuple[str, BranchPrediction, str]]:
    predictions = [("predicted", BranchPrediction(row["class"], float(row["probability"]), None), "all")]
    if run.method == UNIMOS:
        branches = (("VAC", "vac"), ("LAC", "lac"))
        predictions += [
            (name, BranchPrediction(row[branch], float(row[f"{branch}_probability"]), None), branch)
            for name, branch in branches
        ]
    return predictions


def class_shares(run: FinishedRun) -> tuple[list[str], list[float], list[float]]:
    """Return classes with their shares of the predictions and of the source, largest share first.

    Empty if the run has no shares. At most :data:`MAX_BARS` are returned, those whose shares differ most.
    """
    estimate = run.result.estimate
    predicted, source = (np.array(shares, float) for shares in (estimate.class_shares, estimate.source_shares))
    if not len(predicted):
        return [], [], []
    largest = np.argsort(-np.abs(predicted - source), kind="stable")[:MAX_BARS]
    order = largest[np.argsort(-predicted[largest], kind="stable")]
    return [run.classes[k] for k in order], predicted[order].tolist(), source[order].tolist()


def _row_name(experiment: Experiment, run: FinishedRun) -> str:
    return f"{format_pair(run.pair)}, {experiment.display_names[run.label]}, seed {run.spec.seed}"


def _estimate_cells(estimate: Estimate) -> list[Cell]:
    agreement = [estimate.agreement.get(name) for name in COLUMNS[5:8]]
    first = [getattr(estimate, name) for name in ("accuracy", "low", "high", "branches")]
    last = [estimate.confidence, estimate.total_variation]
    return [mean_cell(value) for value in (*first, *agreement, *last)]
