"""Further tables: source by target, published averages, ablation, label-free choice of the epoch."""

from collections.abc import Sequence
from dataclasses import replace

from unimos_pipe.base.method_config import display_name
from unimos_pipe.report.experiment import Experiment
from unimos_pipe.report.headline import mean_baseline
from unimos_pipe.report.published_tables import PUBLISHED_NOTE, PublishedResults
from unimos_pipe.report.setting_names import BASELINES, first_run_by_label
from unimos_pipe.report.significance import paired_difference
from unimos_pipe.report.table import Cell, Table, change_cell, mean_cell, name_cell
from unimos_pipe.runs.method_names import UNIMOS
from unimos_pipe.runs.read_run import FinishedRun
from unimos_pipe.runs.statistics import mean_and_std


def matrix_table(experiment: Experiment) -> Table:
    """Return the headline's scores with sources as rows and targets as columns, and means by target as footer."""
    sources = list(dict.fromkeys(pair.split("->")[0] for pair in experiment.pairs))
    targets = list(dict.fromkeys(pair.split("->")[1] for pair in experiment.pairs))
    order = sources + [name for name in targets if name not in sources]
    targets = [name for name in order if name in targets]
    values = {pair: experiment.mean("last", None, [pair]).mean for pair in experiment.pairs}
    low, high = min(values.values()), max(values.values())

    def shaded_cell(pair: str) -> Cell:
        value = values.get(pair)
        return replace(mean_cell(value), heat=None if value is None else (value - low) / ((high - low) or 1))

    def pairs_into(target: str) -> list[str]:
        return [pair for pair in experiment.pairs if pair.endswith(f"->{target}")]

    def mean_into(label: str, target: str) -> Cell:
        mean = experiment.mean("last", label, pairs_into(target))
        return mean_cell(mean and mean.mean)

    rows = [(name_cell(source), *(shaded_cell(f"{source}->{target}") for target in targets)) for source in sources]
    footer = [
        (
            name_cell(f"mean, {experiment.default_setting_name}"),
            *(mean_into(experiment.default_setting, target) for target in targets),
        )
    ]
    for label in experiment.compared_settings:
        footer.append(
            (name_cell(f"mean, {experiment.display_names[label]}"), *(mean_into(label, target) for target in targets))
        )
    for name in BASELINES:
        cells = [mean_cell(mean_baseline(experiment, name, pairs_into(target))) for target in targets]
        footer.append((name_cell(f"mean, {name}"), *cells))
    return Table(
        "matrix",
        f"Source by target, {experiment.default_setting_name}",
        f"{experiment.metric_name} in %. Rows are sources, columns are targets; a stronger colour is better. An even "
        "column means that the source hardly matters. Last rows: means over the sources.",
        ("source", *targets),
        tuple(rows),
        tuple(footer),
    )


def published_table(experiment: Experiment, paper: PublishedResults) -> Table:
    """Return published averages on this data set and encoder, and those of these runs."""
    rows = [(name_cell(f"{name} (published)"), mean_cell(value, "paper")) for name, value in paper.averages.items()]
    for label in (*experiment.headline_settings, *experiment.compared_settings):
        pairs = experiment.pairs_of(label)
        mean = experiment.mean("last", label, pairs)
        rows.append(
            (name_cell(f"{experiment.display_names[label]} (these runs, {len(pairs)} pair(s))"), mean_cell(mean))
        )
    return Table(
        "published",
        "Published averages",
        "Published averages on this data set and encoder, and the averages of these runs over their pairs. "
        + PUBLISHED_NOTE,
        ("method", "average"),
        tuple(sorted(rows, key=lambda row: row[1].value or 0)),
    )


def ablation_table(experiment: Experiment, paper: PublishedResults) -> Table | None:
    """Return the table of UniMoS's variants over their common pairs and seeds; None for fewer than two variants."""
    first_runs = first_run_by_label(experiment.runs)
    changed = first_runs[experiment.default_setting].spec.changed
    labels = [label for label in experiment.labels if first_runs[label].method == UNIMOS]
    labels = [label for label in labels if first_runs[label].spec.changed == changed]
    if len(labels) < 2:
        return None
    runs_by_label = {label: {(run.pair, run.spec.seed): run for run in experiment.runs_of(label)} for label in labels}
    common = sorted(set.intersection(*(set(label_runs) for label_runs in runs_by_label.values())))
    variants = {label: display_name(first_runs[label].spec.variant) for label in labels}
    rows = []
    for label in labels:
        runs = [(key, runs_by_label[label][key], runs_by_label[labels[0]][key]) for key in common]
        difference = paired_difference((*key, run.score("last"), base.score("last")) for key, run, base in runs)
        rows.append(
            (
                name_cell(variants[label]),
                mean_cell(mean_and_std((*key, run.score("last")) for key, run, _ in runs)),
                Cell("", kind="change") if label == labels[0] else change_cell(difference),
                *(mean_cell(_mean((*key, run.score(which)) for key, run, _ in runs)) for which in ("vac", "lac")),
                *([mean_cell(paper.ablations.get(first_runs[label].spec.variant), "paper")] if paper.ablations else []),
            )
        )
    seeds = {seed for _, seed in common}
    options = experiment.default_setting_name.partition(", ")[2]
    caption = (
        f"{experiment.metric_name} in % over the {len({pair for pair, _ in common})} "
        f"pair(s) and {len(seeds)} seed(s) that every variant has{f', at {options}' if '=' in options else ''}, ± over "
        f"seeds; the difference is against {variants[labels[0]]}. VAC and LAC: each branch alone."
        f"{f' {PUBLISHED_NOTE}' if paper.ablations else ''}"
    )
    columns = ("variant", "ensemble", f"vs {variants[labels[0]]}", "VAC", "LAC")
    return Table(
        "ablation", "Ablation of UniMoS", caption, (*columns, *(["published"] if paper.ablations else [])), tuple(rows)
    )


def _mean(values) -> float | None:
    mean = mean_and_std(values)
    return mean and mean.mean


def selection_table(experiment: Experiment) -> Table | None:
    """Return scores of the epochs that label-free validators select; None without validators."""
    runs = [run for pair in experiment.pairs for run in experiment.select(pair)]
    picks = [run.result.selected for run in runs]
    names = [name for name in picks[0] if all(name in run_picks for run_picks in picks)]
    if not names:
        return None
    last, _ = _compare_with_last(runs, [run.score("last") for run in runs])
    rows = [(name_cell("last epoch (headline)"), last, change_cell(0.0))]
    for name in names:
        rows.append(
            (
                name_cell(name),
                *_compare_with_last(runs, [getattr(run_picks[name], experiment.metric) for run_picks in picks]),
            )
        )
    best, difference = _compare_with_last(runs, [run.score("oracle_best") for run in runs])
    rows.append((name_cell("oracle best"), replace(best, kind="oracle"), difference))
    return Table(
        "selection",
        f"Label-free choice of the epoch, {experiment.default_setting_name}",
        f"{experiment.metric_name} in % of the epoch that each validator selects without target labels, ± standard "
        "deviation over seeds. The oracle selects by target labels.",
        ("selected by", "accuracy", "vs last"),
        tuple(rows),
    )


def _compare_with_last(runs: Sequence[FinishedRun], values: Sequence[float]) -> tuple[Cell, Cell]:
    """Return the cells of a choice's score and of its difference to the last epoch."""
    keyed_values = [(run.pair, run.spec.seed, value) for run, value in zip(runs, values, strict=True)]
    rows = ((*key, run.score("last")) for key, run in zip(keyed_values, runs, strict=True))
    return mean_cell(mean_and_std(keyed_values)), change_cell(paired_difference(rows))
