"""Label-free selection of settings and methods by validators, compared with the default and the oracle."""

from collections.abc import Sequence
from statistics import mean

from unimos_pipe.report.experiment import Experiment
from unimos_pipe.report.setting_names import headline_settings
from unimos_pipe.report.setting_scores import gather_candidates, validator_scores
from unimos_pipe.report.significance import paired_difference
from unimos_pipe.report.table import Cell, Table, change_cell, mean_cell, name_cell, number_cell, text_cell
from unimos_pipe.runs.read_run import FinishedRun


def setting_selection_tables(experiment: Experiment) -> list[Table]:
    """Return a table of the grid's configurations and one of the methods, each if there are several."""
    tables = []
    first_runs = {run.label: run for run in reversed(experiment.runs)}
    default = first_runs[headline_settings(experiment.runs, experiment.recipe)[0]]
    configurations = [label for label, run in first_runs.items() if _variant(run) == _variant(default)]
    groups = (("select-settings", "Label-free choice of the setting", configurations),)
    groups += (("select-methods", "Label-free choice of the method", experiment.comparable_settings),)
    for name, title, labels in groups:
        ordered = [label for label in experiment.labels if label in labels]
        table = _selection_table(experiment, name, title, ordered)
        tables += [table] if table else []
    return tables


def _variant(run: FinishedRun) -> tuple[str, str]:
    return run.method, run.spec.variant


def _selection_table(experiment: Experiment, name: str, title: str, labels: Sequence[str]) -> Table | None:
    candidates = gather_candidates(experiment.runs, labels) if len(labels) > 1 else {}
    pairs = list(candidates[labels[0]]) if candidates else []
    if not pairs:
        return None
    accuracy = {label: {pair: experiment.mean("last", label, [pair]).mean for pair in pairs} for label in labels}
    validators = validator_scores(candidates)
    default = headline_settings(experiment.runs, experiment.recipe)[0]
    picks = (
        {f"default: {experiment.display_names[default]}": dict.fromkeys(pairs, default)} if default in labels else {}
    )
    for validator, scores in validators.items():
        picks[validator] = {pair: max(labels, key=lambda label: scores[label][pair]) for pair in pairs}
    picks["oracle"] = {pair: max(labels, key=lambda label: accuracy[label][pair]) for pair in pairs}
    best = {pair: accuracy[picks["oracle"][pair]][pair] for pair in pairs}
    rows = []
    for picked_by, pick in picks.items():
        picked_accuracy = {pair: accuracy[label][pair] for pair, label in pick.items()}
        regret = [100 * (best[pair] - picked_accuracy[pair]) for pair in pairs]
        difference = None
        if default in labels and not picked_by.startswith("default"):
            difference = paired_difference((pair, 0, picked_accuracy[pair], accuracy[default][pair]) for pair in pairs)
        scores = accuracy if picked_by == "oracle" else validators.get(picked_by)
        common = max(labels, key=lambda label: mean(scores[label].values())) if scores else default
        rows.append(
            (
                name_cell(picked_by),
                mean_cell(mean(picked_accuracy.values()), "oracle" if picked_by == "oracle" else "main"),
                Cell("", kind="change") if difference is None else change_cell(difference),
                number_cell(mean(regret)),
                number_cell(max(regret)),
                text_cell(experiment.display_names[common]) if common in labels else text_cell("–"),
                mean_cell(mean(accuracy[common].values()) if common in labels else None),
            )
        )
    caption = (
        f"{experiment.metric_name} in % of the candidate (of {len(labels)}) that each validator scores highest after "
        f"the last epoch, selected for each of {len(pairs)} pair(s). Regret: points below the oracle, which selects by "
        "target labels. Last columns: the candidate with the highest mean score over the pairs. EnsV: agreement with "
        "the mean of all candidates' probabilities."
    )
    columns = ("selected by", "accuracy", "vs default", "regret, mean", "worst pair", "one for all pairs", "accuracy")
    return Table(name, title, caption, columns, tuple(rows))
