"""Two or more folders of runs held against each other: paired differences, and what sets the folders apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from unimos_pipe.base.errors import InputError, join_names
from unimos_pipe.report.experiment import Experiment, find_runs, shorten_paths
from unimos_pipe.report.significance import PairedDifference, paired_difference
from unimos_pipe.report.table import Cell, Table, change_cell, correct_tests, mean_cell, name_cell, text_cell
from unimos_pipe.report.table_writers import to_csv, to_latex, to_markdown
from unimos_pipe.runs.read_run import FinishedRun

Scores = dict[str, dict[int, float]]  # by pair and seed


@dataclass(frozen=True)
class Comparison:
    """Settings of several folders side by side.

    Attributes:
        names: what the folders are called, the first being the reference.
        table: a row for each setting that every folder has, with the differences from the first folder.
        changes: (what, value in each folder) of everything that differs: settings, encoder, versions, code.
        left_out: a line for each folder or run that does not enter, with the reason.
    """

    names: tuple[str, ...]
    table: Table
    changes: tuple[tuple[str, tuple[str, ...]], ...]
    left_out: tuple[str, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The table as plain values, figures as fractions."""
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
        """The table as Markdown (``md``), ``csv`` or LaTeX (``tex``)."""
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
    """Compare the finished runs of two or more folders, each other folder against the first.

    Settings of equal name are compared; where no name is common, the headline setting of each folder. Every comparison
    is over the pairs of domains that both folders have, a pair's seeds averaged first.

    Raises:
        InputError: fewer than two folders, one without a finished run, no common data set with labels, or no common
            pair.
    """
    if len(folders) < 2:
        raise InputError("compare takes two folders or more", got=len(folders))
    paths = [Path(folder) for folder in folders]
    read = [find_runs([path]) for path in paths]
    left_out = [line for _, lines in read for line in lines]
    names = shorten_paths(paths)
    datasets = [{found.dataset for found in experiments if found.labelled} for experiments, _ in read]
    common = [name for name in sorted(datasets[0]) if all(name in found for found in datasets)]
    if not common:
        held = "; ".join(
            f"{name}: {join_names(sorted(found)) or 'none'}" for name, found in zip(names, datasets, strict=True)
        )
        raise InputError("the folders have no common data set with target labels", got=held)
    rows: list[tuple[Cell, ...]] = []
    changes: dict[str, tuple[str, ...]] = {}
    for dataset in common:
        chosen = [_experiment(experiments, dataset, name) for (experiments, _), name in zip(read, names, strict=True)]
        for title, labels in _settings(chosen):
            head = f"{dataset}, {title}" if len(common) > 1 else title
            rows.append(_row(head, chosen, labels))
            runs = [experiment.runs_of(label) for experiment, label in zip(chosen, labels, strict=True)]
            changes |= {f"{head}: {what}": values for what, values in _changes(runs)}
    title = f"{' and '.join(names[1:])} against {names[0]}"
    caption = (
        f"Last epoch's figure in %, over the pairs of domains that all folders have, ± over seeds; {names[0]} is "
        "subtracted from the others."
    )
    columns = ("setting", "pairs", "seeds", *names, *(f"{name} − {names[0]}" for name in names[1:]))
    table = correct_tests(Table("comparison", title, caption, columns, tuple(rows)))
    return Comparison(names, table, tuple(changes.items()), tuple(left_out))


def _experiment(experiments: Sequence[Experiment], dataset: str, name: str) -> Experiment:
    """The labelled experiment of a data set. Raises InputError where a folder has several."""
    chosen = [found for found in experiments if found.dataset == dataset and found.labelled]
    if len(chosen) > 1:
        held = join_names([f"{found.root} ({found.model})" for found in chosen])
        raise InputError(f"{name} holds {len(chosen)} experiments on {dataset}: {held}", todo="Name the folder of one")
    return chosen[0]


def _settings(chosen: Sequence[Experiment]) -> list[tuple[str, list[str]]]:
    """(title, the label in each experiment) of what is compared."""
    shared = [label for label in chosen[0].labels if all(label in found.labels for found in chosen)]
    if shared:
        return [(chosen[0].display_names[label], [label] * len(chosen)) for label in shared]
    mains = [found.default_setting for found in chosen]
    return [(" / ".join(found.default_setting_name for found in chosen), mains)]


def _row(title: str, chosen: Sequence[Experiment], labels: Sequence[str]) -> tuple[Cell, ...]:
    scores = [_scores(experiment, label) for experiment, label in zip(chosen, labels, strict=True)]
    pairs = [pair for pair in scores[0] if all(pair in found for found in scores)]
    if not pairs:
        raise InputError(f"{title}: the folders have no common pair of domains", got=join_names(list(scores[0]), 12))
    means = [
        mean_cell(experiment.mean("last", label, pairs), "main")
        for experiment, label in zip(chosen, labels, strict=True)
    ]
    apart = [change_cell(difference(found, scores[0], pairs)) for found in scores[1:]]
    seeds = " / ".join(str(len({seed for pair in pairs for seed in found[pair]})) for found in scores)
    return name_cell(title), Cell(str(len(pairs)), len(pairs), kind="count"), text_cell(seeds), *means, *apart


def _scores(experiment: Experiment, label: str) -> Scores:
    scores: Scores = {}
    for pair, seed, value in experiment.scores("last", label):
        scores.setdefault(pair, {})[seed] = value
    return scores


def difference(ours: Scores, other: Scores, pairs: Sequence[str]) -> PairedDifference:
    """The paired difference over these pairs: by seed where both have the same seeds, else of the seeds' means."""
    if all(ours[pair].keys() == other[pair].keys() for pair in pairs):
        same = ((pair, seed, ours[pair][seed], other[pair][seed]) for pair in pairs for seed in ours[pair])
        return paired_difference(same)
    return paired_difference((pair, 0, mean(ours[pair].values()), mean(other[pair].values())) for pair in pairs)


def _changes(runs: Sequence[Sequence[FinishedRun]]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What differs between the folders' runs of a setting, by name."""
    facts = [_facts(found) for found in runs]
    for what in dict.fromkeys(name for found in facts for name in found):
        values = tuple(found.get(what, "–") for found in facts)
        if len(set(values)) > 1:
            yield what, values


def _facts(runs: Sequence[FinishedRun]) -> dict[str, str]:
    """Everything that may set runs apart, each as one text."""
    facts: dict[str, list[Any]] = {}

    def add(what: str, value: Any) -> None:
        known = facts.setdefault(what, [])
        if (text := str(value)) not in known:
            known.append(text)

    for run in runs:
        spec, environment = run.spec, run.config.get("environment", {})
        for name in ("method", "variant", "protocol", "target_classes", "calibrate", "encoder_id"):
            add(name, spec.get(name, ""))
        add("prompts", "; ".join(spec["templates"]))
        for section, options in spec["options"].items():
            for name, value in options.items():
                add(f"{section}.{name}", value)
        for name in ("unimos-pipe", "commit", "torch", "device", "hardware", "threads"):
            add(name, environment.get(name, "not recorded"))
        for module, digest in run.config.get("code", {}).items():
            add(f"code of {module}", digest)
        add("seeds", run.spec["seed"])
    return {what: ", ".join(values) for what, values in facts.items()}
