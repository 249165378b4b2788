"""Tables of all runs and of all classes of all runs, as CSV and JSON."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unimos_pipe.base.atomic_io import write_text
from unimos_pipe.base.csv_escaping import escape_name, escape_path
from unimos_pipe.report.experiment import Experiment
from unimos_pipe.runs.method_names import UNIMOS
from unimos_pipe.runs.read_run import FinishedRun
from unimos_pipe.runs.validator_names import last_epoch_validators

BRANCHES = ("vac", "lac")
COUNTS = ("source_rows", "target_rows", "scored_rows", "labelled_rows", "taught_rows", "classes")
UNKNOWN_SCORES = ("known_before", "known_after", "found", "h_score", "best_h_score", "auroc", "oscr")


def write_runs_csv(experiments: Sequence[Experiment], folder: Path) -> None:
    """Write ``runs`` and ``classes`` as ``.csv`` and ``.json`` to a folder. Accuracies are fractions."""
    for name, rows in (("runs", run_rows(experiments)), ("classes", class_rows(experiments))):
        write_text(folder / f"{name}.csv", _to_csv(rows))
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)  # indent takes five times as long
        write_text(folder / f"{name}.json", f"[{lines}]\n")


def run_rows(experiments: Sequence[Experiment]) -> list[dict[str, Any]]:
    """Return a row for every run: identity, options that any run changed, metrics (None if unknown)."""
    runs = [run for experiment in experiments for run in experiment.runs]
    options = dict.fromkeys(name for run in runs for name in run.spec.changed)
    return [
        {
            **_identity_columns(experiment, run),
            **{name: run.option(name) if run.method in (UNIMOS, name.partition(".")[0]) else None for name in options},
            **_metric_columns(run),
            **{name: getattr(run.result, name) for name in COUNTS},
            "seconds": run.result.seconds,
            "folder": str(run.folder).encode("utf-8", "backslashreplace").decode(),
        }
        for experiment in experiments
        for run in experiment.runs
    ]


def class_rows(experiments: Sequence[Experiment]) -> list[dict[str, Any]]:
    """Return a row for every class of every run: accuracies, and its share of the predictions."""
    rows = []
    for experiment in experiments:
        for run in experiment.runs:
            shares = run.result.estimate.class_shares or [None] * len(run.classes)
            identity = _identity_columns(experiment, run)
            columns = [_class_accuracies(run, which) for which in ("last", "zero_shot", *BRANCHES)]
            for name, *accuracies, share in zip(run.classes, *columns, shares, strict=True):
                names = ("accuracy", "zero_shot_accuracy", *(f"{branch}_accuracy" for branch in BRANCHES))
                figures = dict(zip(names, accuracies, strict=True))
                rows.append({**identity, "class": name, **figures, "share_of_answers": share})
    return rows


def _identity_columns(experiment: Experiment, run: FinishedRun) -> dict[str, Any]:
    spec = run.spec
    names = ("dataset", "encoder_id", "source", "target", "method", "variant", "protocol", "seed")
    recipe = str(experiment.recipe.get("name", ""))
    return {
        "recipe": recipe,
        **{name: getattr(spec, name) for name in names},
        "setting": experiment.display_names[run.label],
    }


def _metric_columns(run: FinishedRun) -> dict[str, Any]:
    estimate, reliability = run.result.estimate, run.result.reliability
    columns = {"metric": run.result.metric}
    for prefix, which in (("", "last"), ("zero_shot_", "zero_shot"), *((f"{prefix}_", prefix) for prefix in BRANCHES)):
        for metric in ("accuracy", "per_class_mean"):
            columns[f"{prefix}{metric}"] = getattr(run.scores(which), metric, None)
    columns["gain"] = run.score("last") - run.score("zero_shot") if run.score("zero_shot") is not None else None
    oracle = run.scores("oracle_best")
    return columns | {
        "oracle_best_accuracy": oracle and oracle.accuracy,
        "oracle_best_epoch": oracle and oracle.epoch,
        "estimated_accuracy": estimate.accuracy,
        "confidence": estimate.confidence,
        "branches_agree": estimate.branches,
        "raw_ece": reliability and reliability.raw.ece,
        "calibrated_ece": reliability and reliability.calibrated and reliability.calibrated.ece,
        **_unknown_columns(run),
        **{f"validator_{name}": run.result.validators.get(name) for name in last_epoch_validators()},
    }


def _unknown_columns(run: FinishedRun) -> dict[str, Any]:
    """Return the share of unknown rows, and their metrics where labels mark them."""
    unknown = run.result.unknown
    scores = unknown and unknown.scores
    return {"unknown_share": unknown and unknown.share} | {
        f"unknown_{name}": scores and getattr(scores, name) for name in UNKNOWN_SCORES
    }


def _class_accuracies(run: FinishedRun, which: str) -> list[float | None]:
    return run.per_class(which) if run.scores(which) else [None] * len(run.classes)


def _to_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    rows = list(rows)
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow(escape_path(v) if n == "folder" else _csv_value(v) for n, v in row.items())
    return file.getvalue()


def _csv_value(value: Any) -> Any:
    return escape_name(value) if isinstance(value, str) else "" if value is None else value
