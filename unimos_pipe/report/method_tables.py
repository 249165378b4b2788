"""The methods of an experiment side by side: accuracy, distance to the best, calibration, seconds."""

from collections.abc import Callable, Sequence
from statistics import mean

from unimos_pipe.report.experiment import Experiment
from unimos_pipe.report.headline import gain_over_baseline, mean_baseline, seeds_note
from unimos_pipe.report.setting_names import BASELINES
from unimos_pipe.report.table import Cell, Table, change_cell, mean_cell, name_cell, number_cell
from unimos_pipe.runs.read_run import FinishedRun
from unimos_pipe.runs.statistics import mean_and_std

MEASURES: dict[str, Callable[[FinishedRun], float | None]] = {  # column -> points of a run
    "estimate off": lambda run: _estimate_error(run),
    "raw ECE": lambda run: _ece(run, "raw"),
    "ECE": lambda run: _ece(run, "calibrated"),
}


def common_pairs(experiment: Experiment) -> list[str]:
    """The pairs that every compared label has."""
    pairs_by_label = [experiment.pairs_of(label) for label in experiment.comparable_settings]
    return [pair for pair in pairs_by_label[0] if all(pair in pairs for pairs in pairs_by_label)]


def baselines_without_runs(experiment: Experiment, pairs: Sequence[str]) -> dict[str, list[float]]:
    """The figures of the baselines without runs of their own that are known for all pairs, by pair."""
    methods = {experiment.method_of(label) for label in experiment.comparable_settings}
    figures = {name: [experiment.baseline(name, pair) for pair in pairs] for name in BASELINES if name not in methods}
    return {name: values for name, values in figures.items() if None not in values}


def method_table(experiment: Experiment) -> Table | None:
    """UniMoS, its variants and every other method, over the pairs that all of them have; None of one method."""
    labels, pairs = experiment.comparable_settings, common_pairs(experiment)
    if len({experiment.method_of(label) for label in labels}) < 2 or not pairs:
        return None
    means = {label: [experiment.mean("last", label, [pair]).mean for pair in pairs] for label in labels}
    baselines = baselines_without_runs(experiment, pairs)
    best = [max(values) for values in zip(*means.values(), *baselines.values(), strict=True)]
    rows = [_row(experiment, label, pairs, means[label], best) for label in labels]
    rows += [_baseline_row(experiment, name, pairs, values, best) for name, values in baselines.items()]
    caption = (
        f"{experiment.metric_name} on the target in %, mean of the {len(pairs)} pair(s) that every method has, "
        "± over seeds; the gain over the better of zero-shot and source-probe; how far a row lies below the best run "
        "of each pair, chosen with target labels, in points; how far the estimated accuracy is off in the mean, in "
        "points; expected calibration error (ECE) before and after calibration, in points; seconds a run took."
    )
    columns = ("method", "accuracy", "gain", "below the best, mean", "worst pair", *MEASURES, "s a run")
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
        number_cell(_average(runs, lambda run: run.result["seconds"])),
    )


def _baseline_row(
    experiment: Experiment, name: str, pairs: Sequence[str], values: Sequence[float], best: Sequence[float]
) -> tuple[Cell, ...]:
    """A baseline that is known from what other runs stored."""
    cells = [number_cell(None)] * (len(MEASURES) + 1)
    accuracy = mean_cell(mean_baseline(experiment, name, pairs), "main")
    return (name_cell(name), accuracy, Cell("", kind="change"), *_regret_cells(values, best), *cells)


def _gain_cell(experiment: Experiment, label: str, pairs: Sequence[str]) -> Cell:
    """The gain over the better baseline; empty of a baseline."""
    is_baseline = experiment.method_of(label) in BASELINES
    return Cell("", kind="change") if is_baseline else change_cell(gain_over_baseline(experiment, label, pairs))


def _regret_cells(means: Sequence[float], best: Sequence[float]) -> tuple[Cell, Cell]:
    regrets = [top - value for top, value in zip(best, means, strict=True)]
    return mean_cell(mean(regrets)), mean_cell(max(regrets))


def _average(runs: Sequence[FinishedRun], measure: Callable[[FinishedRun], float | None]) -> float | None:
    """The one mean of a measure over the runs that have it."""
    values = [(run.pair, run.spec["seed"], value) for run in runs if (value := measure(run)) is not None]
    return mean_and_std(values).mean if values else None


def _estimate_error(run: FinishedRun) -> float | None:
    estimated = run.result.get("estimate", {}).get("accuracy")
    return None if estimated is None else 100 * abs(estimated - run.accuracy("last"))


def _ece(run: FinishedRun, which: str) -> float | None:
    metrics = (run.result.get("reliability") or {}).get(which)
    return metrics and 100 * metrics["ece"]


def _missing_pairs_note(experiment: Experiment, pairs: Sequence[str]) -> list[str]:
    """A sentence on the pairs that not every method has."""
    all_pairs = dict.fromkeys(pair for label in experiment.comparable_settings for pair in experiment.pairs_of(label))
    missing = [pair.replace("->", " → ") for pair in all_pairs if pair not in pairs]
    return [f"Not every method has {', '.join(missing)}: left out here."] if missing else []


def settings_table(experiment: Experiment) -> Table | None:
    """Every label with its own pairs and seeds, so that no run is in no table; None of one label."""
    if len(experiment.labels) < 2:
        return None
    rows = []
    for label in experiment.labels:
        pairs = experiment.pairs_of(label)
        runs = experiment.runs_of(label)
        seeds = sorted({run.spec["seed"] for run in runs})
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
        "All runs by setting, each over its own pairs and seeds: where these are not the same, the rows cannot be "
        "compared with each other, but each with its baselines over the same pairs."
    )
    columns = ("setting", "pairs", "seeds", "runs", "accuracy", *BASELINES, "gain")
    return Table("settings", "Every setting", caption, columns, tuple(rows))
