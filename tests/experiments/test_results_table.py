"""A row's regret, and which targets of a sweep are labelled in part."""

from pathlib import Path

import pytest
from factories.runs import run_spec

from unimos_pipe.experiments.results_table import ResultRow, regret
from unimos_pipe.experiments.run_plans import RunResult
from unimos_pipe.experiments.sweep import SweepResult
from unimos_pipe.runs.run_values import Accuracies, RunMetrics, Scores


def row(label: str, *values: float, seconds: float | None = 1.0) -> ResultRow:
    return ResultRow(label, {f"a->{index}": {0: value} for index, value in enumerate(values)}, seconds=seconds)


def test_regret_is_the_mean_and_the_worst_distance_to_the_best_row_of_a_pair():
    """Of last epochs alone: an oracle, which has no seconds, is no row to be compared with."""
    rows = [row("auto", 0.7, 0.5, 0.9), row("full", 0.8, 0.5, 0.6, 0.1), row("oracle", 1, 1, 1, seconds=None)]
    assert regret(rows, "auto") == (pytest.approx(0.1 / 3), pytest.approx(0.1))
    assert regret(rows, "full") == (pytest.approx(0.1), pytest.approx(0.3))
    assert regret(rows, "oracle") is None and regret(rows, "other") is None


def test_targets_whose_rows_have_labels_in_part_are_named():
    def run(target: str, labelled: int) -> RunResult:
        scores = Scores(accuracy=0.5)
        result = RunMetrics(
            metric="accuracy",
            seconds=1.0,
            accuracy=Accuracies(last=scores, zero_shot=scores) if labelled else None,
            labelled_rows=labelled,
            scored_rows=10,
        )
        return RunResult(run_spec(source="a", target=target), Path("x"), result, None)

    runs = run("all", 10), run("some", 9), run("none", 0)
    sweep = SweepResult("t", Path("r"), ("a->all",), (), (), runs)
    assert sweep.partly_labelled == {"some": (9, 10)}
