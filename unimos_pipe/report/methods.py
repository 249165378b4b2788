"""The methods of an experiment side by side: accuracy, distance to the best, calibration, seconds."""

from collections.abc import Sequence
from statistics import mean

from unimos_pipe.base.config import titled
from unimos_pipe.report.runs import Experiment
from unimos_pipe.report.tables import Table, change, mean_cell, name_cell, number_cell
from unimos_pipe.runs.means import mean_and_spread
from unimos_pipe.runs.stored import Run


def method_table(experiment: Experiment) -> Table | None:
    """Every label of an experiment with several methods, over the pairs that all of them have; else None."""
    if len({run.method for run in experiment.runs}) < 2:
        return None
    labels = experiment.labels
    found = {label: {run.pair for run in experiment.runs if run.label == label} for label in labels}
    pairs = [pair for pair in experiment.pairs if all(pair in there for there in found.values())]
    if not pairs:
        return None
    means = {label: [_mean(experiment, label, pair) for pair in pairs] for label in labels}
    best = [max(values) for values in zip(*means.values(), strict=True)]
    zero = mean(_zero(experiment, pair) for pair in pairs)
    rows = []
    for label in labels:
        below = [top - value for top, value in zip(best, means[label], strict=True)]
        runs = [run for pair in pairs for run in experiment.select(pair, label)]
        rows.append(
            (
                name_cell(titled(label)),
                mean_cell(mean_and_spread(experiment.measured("last", label, pairs)), "main"),
                change(mean(means[label]), zero),
                mean_cell(mean(below)),
                mean_cell(max(below)),
                *(number_cell(_mean_of(values)) for values in _measures(runs).values()),
                number_cell(mean(run.result["seconds"] for run in runs)),
            )
        )
    how = (
        f"Accuracy on the target in %, mean of the {len(pairs)} pair(s) that every method has, ± over seeds; how far "
        "it lies below the best row of each pair, chosen with target labels, in points; how far the estimated accuracy "
        "is off in the mean, in points; expected calibration error (ECE) before and after calibration, in points; "
        "seconds a run took."
    )
    columns = ("method", "accuracy", "vs zero-shot", "below the best, mean", "worst pair", *_measures([]), "s a run")
    return Table("methods", "Methods", how, columns, tuple(rows))


def _measures(runs: Sequence[Run]) -> dict[str, list[float]]:
    """Column -> figures in points of the runs that have one."""
    found: dict[str, list[float]] = {"estimate off": [], "raw ECE": [], "ECE": []}
    for run in runs:
        estimated = run.result.get("estimate", {}).get("accuracy")
        if estimated is not None:
            found["estimate off"].append(100 * abs(estimated - run.accuracy("last")))
        reliability = run.result.get("reliability") or {}
        for column, name in (("raw ECE", "raw"), ("ECE", "calibrated")):
            if name in reliability:
                found[column].append(100 * reliability[name]["ece"])
    return found


def _mean_of(values: Sequence[float]) -> float | None:
    return mean(values) if values else None


def _mean(experiment: Experiment, label: str, pair: str) -> float:
    return mean_and_spread(experiment.measured("last", label, [pair])).mean


def _zero(experiment: Experiment, pair: str) -> float:
    return experiment.mean("zero_shot", pair).mean
