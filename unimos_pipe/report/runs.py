"""The finished runs a report is about, read from their folders without torch: checked, grouped, never changed."""

import csv
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from unimos_pipe.base.cells import name_from_cell, path_from_cell
from unimos_pipe.base.errors import UserError, listing
from unimos_pipe.data.manifest import known_datasets, load_spec

ANSWER = ("path", "class", "probability", "vac", "vac_probability", "lac", "lac_probability")  # of predictions.csv


@dataclass(frozen=True)
class Run:
    """One finished run. Files other than config.json and result.json are read when asked for."""

    folder: Path
    config: dict[str, Any]
    result: dict[str, Any]

    @property
    def spec(self) -> dict[str, Any]:
        """The run's spec as plain values: dataset, source, target, variant, seed, method, ..."""
        return self.config["spec"]

    @property
    def pair(self) -> str:
        """``source->target``."""
        return f"{self.spec['source']}->{self.spec['target']}"

    @property
    def label(self) -> str:
        """``full``, ``no-im`` or ``full,alpha=0.1``: everything but pair and seed."""
        return self.config["label"]

    @property
    def classes(self) -> list[str]:
        """K class names in label order."""
        return self.config["classes"]

    def accuracy(self, which: str) -> float | None:
        """Overall accuracy as a fraction: last, zero_shot, oracle_best, vac or lac; None without target labels."""
        scores = self.result["accuracy"]
        return scores[which]["accuracy"] if scores else None

    def per_class(self, which: str) -> list[float | None]:
        """(K,) accuracy of each class: last, zero_shot, vac or lac. Only where the target has labels."""
        return self.result["accuracy"][which]["per_class"]

    @cached_property
    def epochs(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, the evaluation before training (epoch -1) first."""
        path = self.folder / "metrics.jsonl"
        try:
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from None

    @cached_property
    def predictions(self) -> list[dict[str, str]]:
        """The rows of predictions.csv, in the target's order."""
        path = self.folder / "predictions.csv"
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        except (OSError, ValueError, csv.Error) as error:
            raise _damaged(path, error) from None
        known = set(self.classes)
        columns = ("class", "vac", "lac", *(["label"] if rows and "label" in rows[0] else []))
        if not rows or any(name not in rows[0] for name in ANSWER):
            raise _damaged(path, f"expected the columns {', '.join(ANSWER)}")
        for row in rows:
            row |= {name: name_from_cell(row[name] or "") for name in columns}
            row["path"] = path_from_cell(row["path"])
        if any(row[name] not in known for row in rows for name in columns):
            raise _damaged(path, "a class that config.json does not name")
        return rows

    def tensors(self, *names: str) -> dict[str, np.ndarray]:
        """Named arrays of sample.safetensors, features as float32; ``text`` (K, D) is the target's prompts.

        Not kept: the samples of a large sweep would not fit into memory together.
        """
        found = {}
        for name in names:
            file, key = ("heads", "text_features") if name == "text" else ("sample", name)
            path = self.folder / f"{file}.safetensors"
            try:
                with safe_open(path, framework="numpy") as handle:
                    array = handle.get_tensor(key)
            except (OSError, SafetensorError) as error:
                raise _damaged(path, error) from None
            found[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
        return found


def _damaged(path: Path, error: object) -> UserError:
    reason = " ".join(str(error).split())[:120]
    return UserError(f"{path} cannot be read ({reason}). Train the run again with --force, or leave it out")


@dataclass
class Experiment:
    """Runs of one data set by one encoder below one root: what a report shows together."""

    root: Path
    runs: list[Run]
    recipe: dict[str, Any] = field(default_factory=dict)
    baselines: dict[str, dict[str, float | None]] = field(default_factory=dict)

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self.runs[0].spec["dataset"]

    @property
    def model(self) -> str:
        """Name of the encoder's model."""
        return self.runs[0].config["encoder"]["model"]

    @cached_property
    def main(self) -> str:
        """The label that headline and figures show: ``full``, else the plainest of the labels there are."""
        specs = {run.label: run.spec for run in self.runs}
        return min(specs, key=lambda label: (specs[label]["variant"] != "full", len(specs[label]["changed"]), label))

    @cached_property
    def pairs(self) -> list[str]:
        """Pairs with a run of the main label, in the order found."""
        return list(dict.fromkeys(run.pair for run in self.runs if run.label == self.main))

    @cached_property
    def labels(self) -> list[str]:
        """Labels in the order found, the main one first."""
        return list(dict.fromkeys([self.main, *(run.label for run in self.runs)]))

    @cached_property
    def labelled(self) -> bool:
        """Whether every target has labels, so that there are accuracies."""
        return all(run.result["accuracy"] for run in self.runs)

    def select(self, pair: str, label: str | None = None) -> list[Run]:
        """The runs of a pair and label (default: the main one) by seed."""
        wanted = label or self.main
        return sorted(
            (run for run in self.runs if run.pair == pair and run.label == wanted), key=lambda run: run.spec["seed"]
        )

    def values(self, pair: str, which: str, label: str | None = None) -> list[float]:
        """One accuracy per seed, those that there are."""
        found = (run.accuracy(which) for run in self.select(pair, label))
        return [value for value in found if value is not None]

    def shown_pair(self, wanted: str | None) -> str:
        """The pair that figures show: the wanted one, else the one that gained most over zero-shot.

        Raises:
            UserError: no run of that pair.
        """
        if wanted is not None:
            name = "->".join(part.strip() for part in wanted.split("->"))
            if name not in self.pairs:
                raise UserError(f"--pair {wanted}: no {self.main} run of it; there are {listing(self.pairs, 20)}")
            return name
        if not self.labelled:
            return self.pairs[0]
        gains = {
            pair: statistics.mean(self.values(pair, "last")) - statistics.mean(self.values(pair, "zero_shot"))
            for pair in self.pairs
        }
        return max(gains, key=gains.get)


def find_runs(paths: Sequence[Path]) -> tuple[list[Experiment], list[str]]:
    """Read the finished runs in or below folders.

    Returns:
        The experiments, and one line for each folder that was left out, saying why.
    Raises:
        UserError: a path that is no folder, no finished run at all, or two runs that claim one place in a table.
    """
    experiments: dict[tuple, Experiment] = {}
    places: dict[tuple, Path] = {}
    left_out = []
    for folder in _run_folders(paths):
        run, fault = _read_run(folder)
        if run is None:
            left_out.append(f"{folder}: {fault}")
            continue
        root = _root(run)
        key = root, run.spec["dataset"], run.spec["encoder_id"]
        place = *key, run.pair, run.label, run.spec["seed"]
        if place in places:
            what = f"{run.pair}, {run.label}, seed {run.spec['seed']}"
            raise UserError(f"{places[place]} and {folder} are both {what}; name one of them")
        places[place] = folder
        if key not in experiments:
            experiments[key] = Experiment(root, [], _optional(root / "recipe.json"), _optional(root / "baselines.json"))
        experiments[key].runs.append(run)
    if not experiments:
        reasons = f" ({listing(left_out, 3)})" if left_out else ""
        raise UserError(f"no finished run in {listing(paths)}{reasons}; adapt, sweep and demo make runs")
    for experiment in experiments.values():
        _order(experiment)
    return list(experiments.values()), left_out


def _run_folders(paths: Iterable[Path]) -> list[Path]:
    folders: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise UserError(f"{path} is no folder; give the folder of a run, of a sweep, or of many")
        for config in sorted(path.rglob("config.json")):
            folders.setdefault(config.parent.resolve(), config.parent)
    return list(folders.values())


def _read_run(folder: Path) -> tuple[Run | None, str]:
    """The run in a folder, or None and why there is none."""
    if not (folder / "result.json").is_file():
        return None, "unfinished"
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        run = Run(folder, config, result)
        spec = run.spec
        texts = [run.pair, run.label, spec["dataset"], spec["encoder_id"], spec["variant"], config["encoder"]["model"]]
        texts += run.classes
        numbers = [spec["seed"], result["seconds"], result["target_rows"], spec["method"]["train"]["epochs"]]
        if result["accuracy"]:
            numbers += [run.accuracy(which) for which in ("last", "zero_shot", "oracle_best", "vac", "lac")]
            numbers += [len(run.per_class(which)) - len(run.classes) for which in ("last", "zero_shot")]
            if any(numbers[-2:]):
                return None, "its accuracies do not fit its classes"
        sound = all(isinstance(text, str) for text in texts) and isinstance(spec["changed"], dict)
        if not sound or not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
            return None, "config.json or result.json holds values that are not a run's"
    except (OSError, ValueError) as error:
        return None, f"cannot be read ({' '.join(str(error).split())[:80]})"
    except (KeyError, TypeError, AttributeError) as error:
        return None, f"config.json or result.json lacks {error}; written by another version?"
    return run, ""


def _root(run: Run) -> Path:
    """What lies above ``<dataset>/<encoder>/<pair>/<label>/seed<k>``, or the run's own folder's parent."""
    spec = run.spec
    tail = Path(spec["dataset"], spec["encoder_id"], f"{spec['source']}-{spec['target']}", run.label)
    folder = run.folder.resolve()
    if folder.parts[-5:] == (*tail.parts, f"seed{spec['seed']}"):
        return folder.parents[4]
    return folder.parent


def _optional(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _order(experiment: Experiment) -> None:
    """Pairs as the domains come in, variants and cells as the recipe has them, seeds upwards."""
    variants = list(experiment.recipe.get("variants", [])) or ["full"]
    known = known_datasets().get(experiment.dataset)
    domains = list(load_spec(str(known)).domains) if known else []

    def place(items: list[str], item: str) -> tuple[int, str]:
        return items.index(item) if item in items else len(items), item

    experiment.runs.sort(
        key=lambda run: (
            place(variants, run.spec["variant"]),
            [(name, str(type(value)), value) for name, value in run.spec["changed"].items()],
            place(domains, run.spec["source"]),
            place(domains, run.spec["target"]),
            run.spec["seed"],
        )
    )
