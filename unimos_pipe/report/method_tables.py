"""Tables of methods and settings: accuracy, regret, calibration, seconds."""

from collections.abc import Callable, Sequence
from statistics import mean

from unimos_pipe.report.experiment import Experiment
from unimos_pipe.report.headline import gain_over_baseline, mean_baseline, seeds_note
from unimos_pipe.report.setting_names import BASELINES, format_pair
from unimos_pipe.report.table import Cell, Table, change_cell, mean_cell, name_cell, number_cell
from unimos_pipe.runs.read_run import FinishedRun
from unimos_pipe.runs.statistics import mean_and_std

MEASURES: dict[str, Callable[[FinishedRun], float | None]] = {  # column -> value of a run in points
    "estimate error": lambda run: _estimate_error(run),
    "raw ECE": lambda run: _ece(run, "raw"),
    "ECE": lambda run: _ece(run, "calibrated"),
}


def common_pairs(experiment: Experiment) -> list[str]:
    """Return the pairs that all comparable settings have."""
    pairs_by_label = [experiment.pairs_of(label) for label in experiment.comparable_settings]
    return [pair for pair in pairs_by_label[0] if all(pair in pairs for pairs in pairs_by_label)]


def baselines_without_runs(experiment: Experiment, pairs: Sequence[str]) -> dict[str, list[float]]:
    """Return name -> accuracies by pair of baselines that have no runs but are known for all pairs."""
    methods = {experiment.method_of(label) for label in experiment.comparable_settings}
    figures = {name: [experiment.baseline(name, pair) for pair in pairs] for name in BASELINES if name not in methods}
    return {name: values for name, values in figures.items() if None not in values}


def method_table(experiment: Experiment) -> Table | None:
    """Return the table of all methods over their common pairs; None if there is only one method."""
    labels, pairs = experiment.comparable_settings, common_pairs(experiment)
    if len({experiment.method_of(label) for label in labels}) < 2 or not pairs:
        return None
    means = {label: [experiment.mean("last", label, [pair]).mean for pair in pairs] for label in labels}
    baselines = baselines_without_runs(experiment, pairs)
    best = [max(values) for values in zip(*means.values(), *baselines.values(), strict=True)]
    rows = [_row(experiment, label, pairs, means[label], best) for label in labels]
    rows += [_baseline_row(experiment, name, pairs, values, best) for name, values in baselines.items()]
    caption = (
        f"{experiment.metric_name} on the target in %, mean over the {len(pairs)} pair(s) that all methods have, "
        "± standard deviation over seeds. Gain: difference to the better baseline (zero-shot or source-probe). "
        "Regret: points below the best method of each pair by target labels. Estimate error: mean absolute error of "
        "the estimated accuracy in points. ECE: expected calibration error in points, before (raw) and after "
        "calibration. Seconds: per run."
    )
    columns = ("method", "accuracy", "gain", "regret, mean", "regret, worst pair", *MEASURES, "seconds")
    notes = [*_missing_pairs_note(experiment, pairs), *seeds_note(experiment, labels)]
    return Table("methods", "Methods", " ".join([caption, *notes]), columns, tuple(rows))


def _row(
    experiment: Experiment, label: str, pairs: Sequence[str], means: Sequence[float], best: Sequence[float]
) -> tuple[Cell, ...]:
    runs = [run for pair in pairs for run in experiment.select(pair, label)]
    return (
        name_cell(experiment.display_names[label]),
        mean_cell(experiment.mean("last", label, pairs), "main"),
        _gain_cell(experiment, label, pairs),
        *_regret_cells(means, best),
        *(number_cell(_average(runs, measure)) for measure in MEASURES.values()),
        number_cell(_average(runs, lambda run: run.result.seconds)),
    )


def _baseline_row(
    experiment: Experiment, name: str, pairs: Sequence[str], values: Sequence[float], best: Sequence[float]
) -> tuple[Cell, ...]:
    """Return the row of a baseline without runs."""
    cells = [number_cell(None)] * (len(MEASURES) + 1)
    accuracy = mean_cell(mean_baseline(experiment, name, pairs), "main")
    return (name_cell(name), accuracy, Cell("", kind="change"), *_regret_cells(values, best), *cells)


def _gain_cell(experiment: Experiment, label: str, pairs: Sequence[str]) -> Cell:
    """Return the cell of the gain over the better baseline; empty for a baseline."""
    is_baseline = experiment.method_of(label) in BASELINES
    return Cell("", kind="change") if is_baseline else change_cell(gain_over_baseline(experiment, label, pairs))


def _regret_cells(means: Sequence[float], best: Sequence[float]) -> tuple[Cell, Cell]:
    regrets = [top - value for top, value in zip(best, means, strict=True)]
    return mean_cell(mean(regrets)), mean_cell(max(regrets))


def _average(runs: Sequence[FinishedRun], measure: Callable[[FinishedRun], float | None]) -> float | None:
    """Return the mean of a measure over the runs that have it; None if none has."""
    values = [(run.pair, run.spec.seed, value) for run in runs if (value := measure(run)) is not None]
    return mean_and_std(values).mean if values else None


def _estimate_error(run: FinishedRun) -> float | None:
    estimated = run.result.estimate.accuracy
    return None if estimated is None else 100 * abs(estimated - run.accuracy("last"))


def _ece(run: FinishedRun, which: str) -> float | None:
    metrics = run.result.reliability and getattr(run.result.reliability, which)
    return metrics and 100 * metrics.ece


def _missing_pairs_note(experiment: Experiment, pairs: Sequence[str]) -> list[str]:
    """Return a sentence on pairs that some methods lack."""
    all_pairs = dict.fromkeys(pair for label in experiment.comparable_settings for pair in experiment.pairs_of(label))
    missing = [format_pair(pair) for pair in all_pairs if pair not in pairs]
    return [f"Excluded, because some methods lack them: {', '.join(missing)}."] if missing else []


def settings_table(experiment: Experiment) -> Table | None:
    """Return a row for every label over its own pairs and seeds; None if there is only one label."""
    if len(experiment.labels) < 2:
        return None
    rows = []
    for label in experiment.labels:
        pairs = experiment.pairs_of(label)
        runs = experiment.runs_of(label)
        seeds = sorted({run.spec.seed for run in runs})
        rows.append(
            (
                name_cell(experiment.display_names[label]),
                *(Cell(str(count), count, kind="count") for count in (len(pairs), len(seeds), len(runs))),
                mean_cell(experiment.mean("last", label, pairs), "main"),
                *(mean_cell(mean_baseline(experiment, name, pairs)) for name in BASELINES),
                _gain_cell(experiment, label, pairs),
            )
        )
    caption = (
        "All runs by setting, each over its own pairs and seeds. Rows are comparable only if these are the same; the "
        "baselines of a row are over its pairs."
    )
    columns = ("setting", "pairs", "seeds", "runs", "accuracy", *BASELINES, "gain")
    return Table("settings", "All settings", caption, columns, tuple(rows))
