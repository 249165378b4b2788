"""Results of many runs as the rows of one table: mean and spread over seeds, per pair and on average."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unimos_pipe.adapt.stacks import Outcome, PlannedRun
from unimos_pipe.data.manifest import DatasetSpec
from unimos_pipe.runs.paper import published

ORACLE = "oracle"
Values = dict[str, list[float]]  # pair -> one accuracy per seed


@dataclass(frozen=True)
class ResultRow:
    """A row of the table; pairs without a figure are absent."""

    label: str
    values: Values
    printed_average: float | None = None  # of a published row, which may have nothing else

    def cell(self, pair: str) -> str:
        """``72.3 ± 0.4`` in percent, without the spread of a single value; ``-`` where there is none."""
        return mean_spread(self.values.get(pair, []))

    def average(self, pairs: Sequence[str]) -> str:
        """Mean over pairs, with the spread of that mean over seeds; ``-`` unless every pair has a figure."""
        if self.printed_average is not None:
            return mean_spread([self.printed_average])
        if any(pair not in self.values for pair in pairs):
            return "-"
        columns = zip(*(self.values[pair] for pair in pairs), strict=False)
        return mean_spread([statistics.mean(column) for column in columns])


def published_rows(table: str, spec: DatasetSpec) -> list[ResultRow]:
    """A published table as rows to stand below ours."""
    return [
        ResultRow(f"{row.label}, published", {pair: [value] for pair, value in row.values.items()}, row.average)
        for row in published(table, spec)
    ]


def mean_spread(values: Sequence[float]) -> str:
    """Mean and sample standard deviation of fractions, in percent with one decimal."""
    if not values:
        return "-"
    mean = f"{100 * statistics.mean(values):.1f}"
    return mean if len(set(values)) == 1 else f"{mean} ± {100 * statistics.stdev(values):.1f}"


def result_rows(
    plans: Sequence[PlannedRun],
    outcomes: Sequence[Outcome],
    baselines: Mapping[str, Mapping[str, Any]],
    also: Sequence[str] = (),
) -> list[ResultRow]:
    """Zero-shot and baselines, then every label's last epoch, then what ``also`` names, then the oracle probe.

    Args:
        baselines: as :func:`unimos_pipe.adapt.baselines.pair_baselines` gives them; empty for none.
        also: validators whose choice of epoch is shown beside the last one, and "oracle" for the best epoch by target
            labels, which comes last.
    """
    results: dict[str, dict[str, list[dict]]] = {}
    for plan, outcome in zip(plans, outcomes, strict=True):
        if outcome.result and outcome.result["accuracy"]:
            pair = f"{plan.spec.source}->{plan.spec.target}"
            results.setdefault(plan.spec.label(), {}).setdefault(pair, []).append(outcome.result)

    def rows(title: str, pick: Callable[[dict], float | None]) -> list[ResultRow]:
        return [
            ResultRow(title.format(label), {pair: [pick(result) for result in found] for pair, found in pairs.items()})
            for label, pairs in results.items()
            if all(pick(result) is not None for found in pairs.values() for result in found)
        ]

    metrics = {found["metric"] for pairs in results.values() for same in pairs.values() for found in same}
    (metric,) = metrics or {"accuracy"}  # one data set, so one published figure
    table = rows("zero-shot", lambda result: result["accuracy"]["zero_shot"][metric])[:1]
    table += _baseline_rows("source-only", "source_only", baselines)
    table += rows("{}", lambda result: result["accuracy"]["last"][metric])
    if metric != "accuracy":
        table += rows("{}, overall accuracy", lambda result: result["accuracy"]["last"]["accuracy"])
    for name in (name for name in also if name != ORACLE):
        table += rows(f"{{}}, picked by {name}", lambda r, name=name: r["selected"].get(name, {}).get(metric))
    if ORACLE in also:
        table += rows("{}, oracle best", lambda result: result["accuracy"]["oracle_best"][metric])
    return table + _baseline_rows("target probe, oracle", "target_probe_oracle", baselines)


def _baseline_rows(label: str, key: str, baselines: Mapping[str, Mapping[str, Any]]) -> list[ResultRow]:
    values = {pair: [found[key]] for pair, found in baselines.items() if found[key] is not None}
    return [ResultRow(label, values)] if values else []
