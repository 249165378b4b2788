"""What is known of answers to targets without labels."""

from collections.abc import Mapping
from typing import Any

from unimos_pipe.base.config import titled
from unimos_pipe.report.runs import Experiment
from unimos_pipe.report.tables import Cell, Table, mean_cell, name_cell
from unimos_pipe.runs.methods import ESTIMATE_ERROR

COLUMNS = ("run", "estimated accuracy", "VAC and LAC", "zero-shot", "fused", "linear-im", "confidence", "shares apart")


def known_table(experiment: Experiment) -> Table | None:
    """A row for every run whose target has no labels; None where there is none."""
    rows = tuple(
        (name_cell(f"{run.pair.replace('->', ' → ')}, {titled(run.label)}, seed {run.spec['seed']}"), *_cells(found))
        for run in experiment.runs
        if run.result["accuracy"] is None and (found := run.result.get("estimate"))
    )
    if not rows:
        return None
    how = (
        f"In %. The accuracy is estimated by how often neighbours share an answer ({ESTIMATE_ERROR}); none is told (–) "
        "where fused and linear-im agree on less than half of the rows. Then the rows on which the branches agree, and "
        "on which zero-shot, fused and linear-im give the run's answer: below 50, do not trust it unseen. Confidence "
        "is the answers' mean probability. Shares apart is how far the classes' shares are from the source's, 0 to 100."
    )
    return Table("known", "What is known without labels", how, COLUMNS, rows)


def _cells(found: Mapping[str, Any]) -> list[Cell]:
    agreement = [found.get("agreement", {}).get(name) for name in COLUMNS[3:6]]
    names = ("accuracy", "branches", "confidence", "shares_apart")
    accuracy, branches, confidence, apart = (found.get(name) for name in names)
    return [mean_cell(value) for value in (accuracy, branches, *agreement, confidence, apart)]
