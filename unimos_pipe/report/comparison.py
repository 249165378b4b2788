"""Comparison of folders of runs: paired differences, and differing settings, versions and code."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import mean
from typing import Any

from unimos_pipe.base.errors import InputError, join_names
from unimos_pipe.report.experiment import Experiment
from unimos_pipe.report.find_runs import find_runs
from unimos_pipe.report.setting_names import shorten_paths
from unimos_pipe.report.significance import PairedDifference, paired_difference
from unimos_pipe.report.table import Cell, Table, change_cell, correct_tests, mean_cell, name_cell, text_cell
from unimos_pipe.report.table_writers import to_csv, to_latex, to_markdown
from unimos_pipe.runs.read_run import FinishedRun
from unimos_pipe.runs.run_values import RecordedSpec

# Fields of a spec that are compared as they are; the others are the pair's, the seed, or compared key by key.
OTHER_FIELDS = {"dataset", "source", "target", "seed", "templates", "options", "settings", "changed"}
COMPARED_FIELDS = [entry.name for entry in fields(RecordedSpec) if entry.name not in OTHER_FIELDS]
Scores = dict[str, dict[int, float]]  # pair -> seed -> score


@dataclass(frozen=True)
class Comparison:
    """Comparison of the settings of several folders.

    Attributes:
        names: names of the folders; the first is the reference.
        table: a row for each common setting, with differences to the first folder.
        changes: (name, value in each folder) of differing settings, encoders, versions and code.
        skipped: a line with the reason for each skipped folder or run.
    """

    names: tuple[str, ...]
    table: Table
    changes: tuple[tuple[str, tuple[str, ...]], ...]
    skipped: tuple[str, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The table as plain values, scores as fractions."""
        count = len(self.names)
        return [
            {
                "setting": row[0].text,
                "pairs": row[1].value,
                "means": [cell.value for cell in row[3 : 3 + count]],
                "differences": [_plain_difference(cell) for cell in row[3 + count :]],
            }
            for row in self.table.rows
        ]

    def to_text(self, form: str) -> str:
        """Return the table as Markdown (``md``), ``csv`` or LaTeX (``tex``)."""
        writers = {"md": to_markdown, "csv": to_csv, "tex": lambda table: to_latex(table, table.name)}
        return writers[form](self.table)


def _plain_difference(cell: Cell) -> dict[str, Any]:
    difference = cell.difference
    return {
        "mean": cell.value,
        "interval": difference.interval,
        "p": difference.p,
        "p_holm": cell.p,
        "p_wilcoxon": difference.p_wilcoxon,
    }


def compare_runs(folders: Sequence[str | Path]) -> Comparison:
    """Compare the finished runs of two or more folders with those of the first.

    Settings of equal name are compared, or the headline settings if no name is common. Each comparison is over the
    pairs of domains that all folders have, after averaging a pair's seeds.

    Raises:
        InputError: fewer than two folders, a folder without a finished run, no common data set with labels, or no
            common pair.
    """
    if len(folders) < 2:
        raise InputError("compare needs two or more folders", got=len(folders))
    paths = [Path(folder) for folder in folders]
    read = [find_runs([path]) for path in paths]
    skipped = [line for _, lines in read for line in lines]
    names = shorten_paths(paths)
    datasets = [{experiment.dataset for experiment in experiments if experiment.labelled} for experiments, _ in read]
    common = [name for name in sorted(datasets[0]) if all(name in held for held in datasets)]
    if not common:
        summary = "; ".join(
            f"{name}: {join_names(sorted(held)) or 'none'}" for name, held in zip(names, datasets, strict=True)
        )
        raise InputError("the folders have no common data set with target labels", got=summary)
    rows: list[tuple[Cell, ...]] = []
    changes: dict[str, tuple[str, ...]] = {}
    for dataset in common:
        dataset_experiments = [
            _select_experiment(experiments, dataset, name) for (experiments, _), name in zip(read, names, strict=True)
        ]
        for title, labels in _match_settings(dataset_experiments):
            setting = f"{dataset}, {title}" if len(common) > 1 else title
            rows.append(_row(setting, dataset_experiments, labels))
            runs = [experiment.runs_of(label) for experiment, label in zip(dataset_experiments, labels, strict=True)]
            changes |= {f"{setting}: {what}": values for what, values in _changes(runs)}
    title = f"{' and '.join(names[1:])} against {names[0]}"
    caption = (
        "Score of the last epoch in %, mean over the pairs of domains that all folders have, ± standard deviation "
        f"over seeds. Differences are to {names[0]}."
    )
    columns = ("setting", "pairs", "seeds", *names, *(f"{name} − {names[0]}" for name in names[1:]))
    table = correct_tests(Table("comparison", title, caption, columns, tuple(rows)))
    return Comparison(names, table, tuple(changes.items()), tuple(skipped))


def _select_experiment(experiments: Sequence[Experiment], dataset: str, name: str) -> Experiment:
    """Return the labelled experiment of a data set. Raises InputError if a folder has several."""
    chosen = [experiment for experiment in experiments if experiment.dataset == dataset and experiment.labelled]
    if len(chosen) > 1:
        summary = join_names([f"{experiment.root} ({experiment.model})" for experiment in chosen])
        raise InputError(
            f"{name} holds {len(chosen)} experiments on {dataset}: {summary}", todo="Pass the folder of one"
        )
    return chosen[0]


def _match_settings(experiments: Sequence[Experiment]) -> list[tuple[str, list[str]]]:
    """Return (title, label in each experiment) of the compared settings."""
    shared = [label for label in experiments[0].labels if all(label in experiment.labels for experiment in experiments)]
    if shared:
        return [(experiments[0].display_names[label], [label] * len(experiments)) for label in shared]
    defaults = [experiment.default_setting for experiment in experiments]
    return [(" / ".join(experiment.default_setting_name for experiment in experiments), defaults)]


def _row(title: str, experiments: Sequence[Experiment], labels: Sequence[str]) -> tuple[Cell, ...]:
    scores = [_scores(experiment, label) for experiment, label in zip(experiments, labels, strict=True)]
    pairs = [pair for pair in scores[0] if all(pair in folder_scores for folder_scores in scores)]
    if not pairs:
        raise InputError(f"{title}: the folders have no common pair of domains", got=join_names(list(scores[0]), 12))
    means = [
        mean_cell(experiment.mean("last", label, pairs), "main")
        for experiment, label in zip(experiments, labels, strict=True)
    ]
    differences = [change_cell(difference(folder_scores, scores[0], pairs)) for folder_scores in scores[1:]]
    seeds = " / ".join(str(len({seed for pair in pairs for seed in folder_scores[pair]})) for folder_scores in scores)
    return name_cell(title), Cell(str(len(pairs)), len(pairs), kind="count"), text_cell(seeds), *means, *differences


def _scores(experiment: Experiment, label: str) -> Scores:
    scores: Scores = {}
    for pair, seed, value in experiment.scores("last", label):
        scores.setdefault(pair, {})[seed] = value
    return scores


def difference(ours: Scores, other: Scores, pairs: Sequence[str]) -> PairedDifference:
    """Return the paired difference over these pairs: by seed if both have the same seeds, else of the seeds' means."""
    if all(ours[pair].keys() == other[pair].keys() for pair in pairs):
        same = ((pair, seed, ours[pair][seed], other[pair][seed]) for pair in pairs for seed in ours[pair])
        return paired_difference(same)
    return paired_difference((pair, 0, mean(ours[pair].values()), mean(other[pair].values())) for pair in pairs)


def _changes(runs: Sequence[Sequence[FinishedRun]]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield (name, values) of differences between the folders' runs of a setting."""
    facts = [_facts(folder_runs) for folder_runs in runs]
    for name in dict.fromkeys(name for folder_facts in facts for name in folder_facts):
        values = tuple(folder_facts.get(name, "–") for folder_facts in facts)
        if len(set(values)) > 1:
            yield name, values


def _facts(runs: Sequence[FinishedRun]) -> dict[str, str]:
    """Return name -> text of the properties in which runs may differ."""
    facts: dict[str, list[Any]] = {}

    def add(name: str, value: Any) -> None:
        texts = facts.setdefault(name, [])
        if (text := str(value)) not in texts:
            texts.append(text)

    for run in runs:
        spec, environment = run.spec, run.config.environment
        for name in COMPARED_FIELDS:
            add(name, getattr(spec, name))
        add("classes", f"{len(run.classes)} ({join_names(run.classes, 20)})")
        add("prompts", "; ".join(spec.templates))
        for name, value in spec.settings.items():
            add(f"{spec.method}.{name}", value)
        for section, options in spec.options.items():
            for name, value in options.items():
                add(f"{section}.{name}", value)
        for name in ("unimos-pipe", "commit", "torch", "device", "hardware", "threads"):
            add(name, environment.get(name, "not recorded"))
        for module, digest in (run.config.code or {}).items():
            add(f"code of {module}", digest)
        add("seeds", run.spec.seed)
    return {name: ", ".join(values) for name, values in facts.items()}
