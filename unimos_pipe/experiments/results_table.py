"""Results of many runs as a table: mean and standard deviation over seeds, per pair and averaged over pairs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

from unimos_pipe.data.dataset_spec import DatasetSpec
from unimos_pipe.runs.published_results import load_published_rows
from unimos_pipe.runs.run_spec import row_names
from unimos_pipe.runs.run_values import RunMetrics
from unimos_pipe.runs.statistics import MeanStd, mean_and_std
from unimos_pipe.training.batched_training import PlannedRun, RunOutcome

ORACLE_ROW = "oracle"
PROBES = "probes"  # logistic regressions on source labels and, as an oracle, on target labels
Values = dict[str, dict[int, float]]  # pair -> accuracy by seed; values without a seed have key 0


@dataclass(frozen=True)
class ResultRow:
    """A row of the table. Pairs without a value are absent."""

    label: str
    values: Values
    published_average: float | None = None  # of a published row, which may have no values
    seconds: float | None = None  # mean per run; only for rows of the last epoch
    estimate_mae: float | None = None  # mean distance of the label-free estimate to the accuracy, of runs that have one

    def format_pair(self, pair: str) -> str:
        """Return ``72.3 ± 0.4`` in percent, without standard deviation for a single value; ``-`` without a value."""
        return _format_mean(mean_and_std((pair, seed, value) for seed, value in self.values.get(pair, {}).items()))

    def format_average(self, pairs: Sequence[str]) -> str:
        """Return the mean over pairs and its standard deviation over seeds; ``-`` unless every pair has a value."""
        if self.published_average is not None:
            return MeanStd(self.published_average).text()
        return "-" if any(pair not in self.values for pair in pairs) else _format_mean(self.mean())

    def mean(self) -> MeanStd | None:
        """Return the mean over the pairs that have a value, and its standard deviation over seeds."""
        return mean_and_std(
            (pair, seed, value) for pair, by_seed in self.values.items() for seed, value in by_seed.items()
        )


def regret(rows: Sequence[ResultRow], label: str) -> tuple[float, float] | None:
    """Return a row's regret: mean and maximum distance to the best last-epoch row of each pair; None without it.

    The best row is selected by target labels, from means over seeds, on the pairs that every row has.
    """
    last = {row.label: row.values for row in rows if row.seconds is not None}
    if label not in last:
        return None
    pairs = set.intersection(*(set(values) for values in last.values()))
    means = {pair: {name: mean(values[pair].values()) for name, values in last.items()} for pair in pairs}
    below = [max(means_by_row.values()) - means_by_row[label] for means_by_row in means.values()]
    return (mean(below), max(below)) if below else None


def _format_mean(value: MeanStd | None) -> str:
    return "-" if value is None else value.text()


def published_rows(table: str, spec: DatasetSpec) -> list[ResultRow]:
    """Return a published table as rows."""
    return [
        ResultRow(f"{row.label}, published", {pair: {0: value} for pair, value in row.values.items()}, row.average)
        for row in load_published_rows(table, spec)
    ]


def result_rows(
    plans: Sequence[PlannedRun],
    outcomes: Sequence[RunOutcome],
    baselines: Mapping[str, Mapping[str, Any]],
    show: Sequence[str] = (),
) -> list[ResultRow]:
    """Return the rows of a results table.

    Order: zero-shot and source probe, the last epoch of every label, the rows of ``show``, the target probe (oracle).
    Probes appear if ``baselines`` has them. Runs of the methods zero-shot and source-probe take the place of the
    baselines.

    Args:
        baselines: as :func:`unimos_pipe.evaluation.baselines.measure_baselines` returns them; empty for none.
        show: validators whose selected epoch gets a row; "oracle": the best epoch by target labels, which is last.
    """
    results: dict[str, dict[str, dict[int, RunMetrics]]] = {}  # by name, pair and seed
    names = row_names([plan.spec for plan in plans])
    for plan, name, outcome in zip(plans, names, outcomes, strict=True):
        if outcome.result and outcome.result.accuracy:
            pair = f"{plan.spec.source}->{plan.spec.target}"
            results.setdefault(name, {}).setdefault(pair, {})[plan.spec.seed] = outcome.result

    def rows(title: str, pick: Callable[[RunMetrics], float | None]) -> list[ResultRow]:
        return [
            ResultRow(
                title.format(label),
                {pair: {k: pick(result) for k, result in by_seed.items()} for pair, by_seed in pairs.items()},
            )
            for label, pairs in results.items()
            if all(pick(result) is not None for by_seed in pairs.values() for result in by_seed.values())
        ]

    every_result = [result for pairs in results.values() for by_seed in pairs.values() for result in by_seed.values()]
    metrics = {result.metric for result in every_result}
    (metric,) = metrics or {"accuracy"}  # one data set, so one published figure
    table = []
    if "zero-shot" not in results:
        table += [
            ResultRow(row.label, {pair: {0: next(iter(by_seed.values()))} for pair, by_seed in row.values.items()})
            for row in rows("zero-shot", lambda result: getattr(result.accuracy.zero_shot, metric, None))[:1]
        ]  # zero-shot has no seed
    if "source-probe" not in results:
        table += _build_baseline_rows("source-probe", "source_only", baselines)
    for row in rows("{}", lambda result: getattr(result.accuracy.last, metric)):
        runs = [result for by_seed in results[row.label].values() for result in by_seed.values()]
        errors = [abs(estimated - result.accuracy.last.accuracy) for result, estimated in _pair_with_estimates(runs)]
        seconds = mean(result.seconds for result in runs)
        table.append(replace(row, seconds=seconds, estimate_mae=mean(errors) if errors else None))
    if metric != "accuracy":
        table += rows("{}, overall accuracy", lambda result: result.accuracy.last.accuracy)
    for name in (name for name in show if name not in (ORACLE_ROW, PROBES)):
        table += rows(
            f"{{}}, chosen by {name}", lambda result, name=name: getattr(result.selected.get(name), metric, None)
        )
    if ORACLE_ROW in show:
        table += rows("{}, oracle best", lambda result: getattr(result.accuracy.oracle_best, metric, None))
    return table + _build_baseline_rows("target probe, oracle", "target_probe_oracle", baselines)


def _pair_with_estimates(runs: Sequence[RunMetrics]) -> list[tuple[RunMetrics, float]]:
    """Return the results that have an estimated accuracy, each with the estimate."""
    estimates = [(run, run.estimate.accuracy) for run in runs]
    return [(run, estimated) for run, estimated in estimates if estimated is not None]


def _build_baseline_rows(label: str, key: str, baselines: Mapping[str, Mapping[str, Any]]) -> list[ResultRow]:
    values = {pair: {0: figures[key]} for pair, figures in baselines.items() if figures[key] is not None}
    return [ResultRow(label, values)] if values else []
