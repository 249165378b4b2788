"""What is known of answers to targets without labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unimos_pipe.report.error_analysis import BARS, SHOWN, BranchPrediction
from unimos_pipe.report.experiment import Experiment
from unimos_pipe.report.table import Cell, Table, mean_cell, name_cell
from unimos_pipe.runs.method_names import ESTIMATE_ERROR, UNIMOS
from unimos_pipe.runs.read_run import FinishedRun

COLUMNS = ("run", "estimated accuracy", "VAC and LAC", "zero-shot", "fused", "linear-im", "confidence", "shares apart")


def diagnostics_table(experiment: Experiment) -> Table | None:
    """A row for every run whose target has no labels; None where there is none."""
    runs = [run for run in experiment.runs if run.result["accuracy"] is None]
    rows = tuple((name_cell(_name(experiment, run)), *_cells(run.result.get("estimate", {}))) for run in runs)
    if not rows:
        return None
    how = (
        f"In %. The accuracy is estimated by how often neighbours share an answer ({ESTIMATE_ERROR}); none is told (–) "
        "where fused and linear-im agree on less than half of the rows. Then the rows on which the branches agree, and "
        "on which zero-shot, fused and linear-im give the run's answer: below 50, do not trust it unseen. Confidence "
        "is the answers' mean probability. Shares apart is how far the classes' shares are from the source's, 0 to 100."
    )
    return Table("known", "What is known without labels", how, COLUMNS, rows)


@dataclass(frozen=True)
class UncertainImage:
    """A target image with who answers what, and the name of its colour; ``thumbnail`` is a data address, or empty."""

    path: str
    answers: list[tuple[str, BranchPrediction, str]]
    truth: None = None
    thumbnail: str = ""


def find_uncertain_images(run: FinishedRun, limit: int = SHOWN) -> list[UncertainImage]:
    """The rows whose answers have the lowest probability, lowest first."""
    rows = sorted(run.predictions, key=lambda row: float(row["probability"]))[:limit]
    return [UncertainImage(row["path"], _answers(run, row)) for row in rows]


def _answers(run: FinishedRun, row: Mapping[str, str]) -> list[tuple[str, BranchPrediction, str]]:
    found = [("answer", BranchPrediction(row["class"], float(row["probability"]), None), "all")]
    if run.method == UNIMOS:
        branches = (("VAC", "vac"), ("LAC", "lac"))
        found += [
            (name, BranchPrediction(row[kind], float(row[f"{kind}_probability"]), None), kind)
            for name, kind in branches
        ]
    return found


def share_changes(run: FinishedRun) -> tuple[list[str], list[float], list[float]]:
    """Classes with their shares of the answers and of the source, most answered first; no more than :data:`BARS`.

    Empty where the run did not keep them; of more classes those whose shares differ most stay.
    """
    found = run.result.get("estimate", {})
    ours, source = (np.array(found.get(name, []), float) for name in ("class_shares", "source_shares"))
    if not len(ours):
        return [], [], []
    kept = np.argsort(-np.abs(ours - source), kind="stable")[:BARS]
    order = kept[np.argsort(-ours[kept], kind="stable")]
    return [run.classes[k] for k in order], ours[order].tolist(), source[order].tolist()


def _name(experiment: Experiment, run: FinishedRun) -> str:
    return f"{run.pair.replace('->', ' → ')}, {experiment.names[run.label]}, seed {run.spec['seed']}"


def _cells(found: Mapping[str, Any]) -> list[Cell]:
    agreement = [found.get("agreement", {}).get(name) for name in COLUMNS[3:6]]
    names = ("accuracy", "branches", "confidence", "total_variation")
    accuracy, branches, confidence, apart = (found.get(name) for name in names)
    return [mean_cell(value) for value in (accuracy, branches, *agreement, confidence, apart)]
