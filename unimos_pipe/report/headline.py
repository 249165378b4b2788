"""Headline table: accuracy by pair of methods and baselines, and the gain over the better baseline."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unimos_pipe.report.experiment import Experiment
from unimos_pipe.report.published_tables import PUBLISHED_NOTE, PublishedResults
from unimos_pipe.report.setting_names import BASELINES, format_pair
from unimos_pipe.report.significance import PairedDifference, paired_difference
from unimos_pipe.report.table import Cell, Table, change_cell, mean_cell, name_cell, text_cell
from unimos_pipe.runs.method_names import UNIMOS, UNIMOS_NAME
from unimos_pipe.runs.statistics import MeanStd, describe_labelled_rows, mean_and_std

OTHER_METRIC = {"accuracy": ("class mean", "per_class_mean"), "per_class_mean": ("overall accuracy", "accuracy")}


@dataclass(frozen=True)
class Column:
    """A column of the headline; ``cell`` returns its cell of a label over some pairs."""

    title: str
    cell: Callable[[str, Sequence[str]], Cell]


def headline(experiment: Experiment, paper: PublishedResults) -> Table:
    """Return a row for every pair and headline label, and means over pairs as footer."""
    columns, several = _columns(experiment, paper), len(experiment.headline_settings) > 1
    rows, footer = [], []
    for label in experiment.headline_settings:
        pairs, prefix = experiment.pairs_of(label), f"{experiment.display_names[label]}: " if several else ""
        rows += [_row(f"{prefix}{format_pair(pair)}", columns, label, [pair]) for pair in pairs]
        if len(pairs) > 1:
            footer.append(_row(f"{prefix}mean of {len(pairs)}", columns, label, pairs))
    titles = ("setting and pair" if several else "pair", *(column.title for column in columns))
    return Table(
        "headline", "Accuracy by pair", _caption(experiment, paper, columns), titles, tuple(rows), tuple(footer)
    )


def _row(name: str, columns: Sequence[Column], label: str, pairs: Sequence[str]) -> tuple[Cell, ...]:
    return (name_cell(name), *(column.cell(label, pairs) for column in columns))


def _columns(experiment: Experiment, paper: PublishedResults) -> list[Column]:
    headline_title = UNIMOS_NAME if len(experiment.headline_settings) > 1 else experiment.default_setting_name
    other_title, other_metric = OTHER_METRIC[experiment.metric]

    def headline_mean(which: str, kind: str = "") -> Callable[[str, Sequence[str]], Cell]:
        return lambda label, pairs: mean_cell(experiment.mean(which, label, pairs), kind)

    def setting_mean(setting: str) -> Callable[[str, Sequence[str]], Cell]:
        return lambda _, pairs: mean_cell(experiment.mean("last", setting, pairs))

    def baseline_column(name: str) -> Callable[[str, Sequence[str]], Cell]:
        return lambda _, pairs: mean_cell(mean_baseline(experiment, name, pairs))

    columns = [
        Column(headline_title, headline_mean("last", "main")),
        Column("gain", lambda label, pairs: change_cell(gain_over_baseline(experiment, label, pairs))),
        *(Column(experiment.display_names[label], setting_mean(label)) for label in experiment.compared_settings),
        *(Column(name, baseline_column(name)) for name in BASELINES if _is_known(experiment, name)),
        Column(other_title, lambda label, pairs: mean_cell(_other_metric_mean(experiment, other_metric, label, pairs))),
    ]
    if experiment.has_unimos:
        columns += _published_columns(experiment, paper) if paper.pairs else []
        columns.append(Column("oracle best", headline_mean("oracle_best", "oracle")))
    if any(experiment.label_counts(pair) for pair in experiment.pairs):
        columns.append(Column("labels", lambda label, pairs: _labels_cell(experiment, label, pairs)))
    return columns


def _is_known(experiment: Experiment, name: str) -> bool:
    """Return whether a baseline is known for any pair."""
    return any(experiment.baseline(name, pair) is not None for pair in experiment.pairs)


def _published_columns(experiment: Experiment, paper: PublishedResults) -> list[Column]:
    def published_mean(pairs: Sequence[str]) -> float | None:
        values = [paper.pairs.get(pair, {}).get(UNIMOS_NAME) for pair in pairs]
        return None if None in values else mean_and_std((str(i), 0, v) for i, v in enumerate(values)).mean

    def difference(label: str, pairs: Sequence[str]) -> Cell:
        ours, published = experiment.mean("last", label, pairs), published_mean(pairs)
        return change_cell(None if ours is None or published is None else ours.mean - published)

    return [
        Column("published", lambda _, pairs: mean_cell(published_mean(pairs), "paper")),
        Column("vs published", difference),
    ]


def mean_baseline(experiment: Experiment, name: str, pairs: Sequence[str]) -> float | None:
    """Return a baseline's mean over pairs; None if a pair lacks it."""
    values = [experiment.baseline(name, pair) for pair in pairs]
    return None if None in values else mean_and_std((str(i), 0, v) for i, v in enumerate(values)).mean


def better_baseline(experiment: Experiment, pairs: Sequence[str]) -> str | None:
    """Return the baseline with the higher mean over pairs; None if neither is known for all of them."""
    means = {name: value for name in BASELINES if (value := mean_baseline(experiment, name, pairs)) is not None}
    return max(means, key=means.get) if means else None


def gain_over_baseline(experiment: Experiment, label: str, pairs: Sequence[str]) -> PairedDifference | None:
    """Return a label's paired difference to the better baseline of these pairs; None without a baseline."""
    name = better_baseline(experiment, pairs)
    if name is None:
        return None
    others = {pair: experiment.baseline(name, pair) for pair in pairs}
    scores = experiment.scores("last", label, pairs)
    return paired_difference((pair, seed, score, others[pair]) for pair, seed, score in scores)


def _other_metric_mean(experiment: Experiment, metric: str, label: str, pairs: Sequence[str]) -> MeanStd | None:
    """Return the mean of the metric that is not the data set's published one."""
    return mean_and_std(
        (pair, run.spec.seed, getattr(run.result.accuracy.last, metric))
        for pair in pairs
        for run in experiment.select(pair, label)
    )


def _labels_cell(experiment: Experiment, label: str, pairs: Sequence[str]) -> Cell:
    """Return the cell with the number of labelled rows and the confidence interval of the accuracy."""
    if len(pairs) > 1:
        return text_cell("–")
    counts = experiment.label_counts(pairs[0])
    if not counts:
        return text_cell("all")
    runs = experiment.select(pairs[0], label)
    accuracy = mean_and_std((pairs[0], run.spec.seed, run.accuracy("last")) for run in runs).mean
    return text_cell(describe_labelled_rows(accuracy, *counts))


def _caption(experiment: Experiment, paper: PublishedResults, columns: Sequence[Column]) -> str:
    """Return the caption of the headline table."""
    titles = {column.title for column in columns}
    parts = [f"{experiment.metric_name} on the target in %, mean ± standard deviation over seeds."]
    if experiment.has_unimos:
        parts.append("UniMoS: last epoch.")
    parts.append("Gain: difference to the better baseline of the row (zero-shot or source-probe).")
    if not _is_known(experiment, "source-probe"):
        parts.append("Source-probe was not run. The method source-probe or the probes of a sweep give it.")
    if "oracle best" in titles:
        parts.append(
            "Oracle best: the best epoch by target labels, an upper bound that no unsupervised method may use."
        )
    if "labels" in titles:
        parts.append("Labels: number of labelled rows, and the 95% Wilson interval of the accuracy on them.")
    if any("(ours)" in title for title in titles):
        parts.append("(ours): an extension of UniMoS that is not in the paper.")
    if "published" in titles:
        parts += ["Published: UniMoS as published.", PUBLISHED_NOTE]
    if len(experiment.headline_settings) > 1:
        parts.append("No run has the default setting, so all settings are shown.")
    return " ".join(parts + seeds_note(experiment, [*experiment.headline_settings, *experiment.compared_settings]))


def seeds_note(experiment: Experiment, labels: Sequence[str]) -> list[str]:
    """Return a sentence on labels and pairs with other seeds than the rest; empty if all have the same seeds.

    Only UniMoS is considered: the other methods are deterministic and run once.
    """
    seeds: dict[tuple[int, ...], list[str]] = {}
    for label in (label for label in labels if experiment.method_of(label) == UNIMOS):
        for pair in experiment.pairs_of(label):
            run_seeds = tuple(run.spec.seed for run in experiment.select(pair, label))
            seeds.setdefault(run_seeds, []).append(f"{experiment.display_names[label]} on {format_pair(pair)}")
    if len(seeds) < 2:
        return []
    commonest = max(seeds, key=lambda run_seeds: len(seeds[run_seeds]))
    exceptions = (
        f"{_join_first(names)}: {_join_seeds(run_seeds)}"
        for run_seeds, names in seeds.items()
        if run_seeds != commonest
    )
    return [f"Seeds differ: {_join_seeds(commonest)}, except for {'; '.join(exceptions)}."]


def _join_seeds(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _join_first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
