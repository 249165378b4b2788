"""The finished runs a report is about, read from their folders without torch: checked, grouped, never changed."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from unimos_pipe.base.config import OURS, titled
from unimos_pipe.base.errors import UserError, listing
from unimos_pipe.data.manifest import known_datasets, load_spec
from unimos_pipe.runs.folder import CONFIG
from unimos_pipe.runs.means import MeanSpread, mean_and_spread
from unimos_pipe.runs.methods import UNIMOS
from unimos_pipe.runs.stored import Run, RunFolderError, read_run

FULL = "UniMoS"


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
        """The label that headline and figures show: ``full``, else the plainest of UniMoS's, else the first method."""
        specs = {run.label: run.spec for run in self.runs}

        def place(label: str) -> tuple:
            spec = specs[label]
            return spec["method"] != UNIMOS, spec["variant"] != "full", len(spec["changed"]), label

        return min(specs, key=place)

    @cached_property
    def tuned(self) -> bool:
        """Whether the main label is UniMoS's, so that there are epochs and branches to show."""
        return all(run.method == UNIMOS for run in self.runs if run.label == self.main)

    @property
    def main_name(self) -> str:
        """The main label's method, for readers: ``UniMoS``, with the variant where that is not the paper's."""
        variant = self.main.partition(",")[0]
        return f"{FULL}, {titled(variant)}" if variant in OURS else FULL if self.tuned else self.main

    @cached_property
    def pairs(self) -> list[str]:
        """Pairs with a run of the main label, in the order found."""
        return list(dict.fromkeys(run.pair for run in self.runs if run.label == self.main))

    @cached_property
    def labels(self) -> list[str]:
        """Labels in the order found, the main one first."""
        return list(dict.fromkeys([self.main, *(run.label for run in self.runs)]))

    @cached_property
    def ours(self) -> list[str]:
        """Labels that differ from the main one by a variant alone that is no part of the paper."""
        specs = {run.label: run.spec for run in self.runs}
        changed = specs[self.main]["changed"]
        others = [label for label in self.labels if label != self.main and specs[label]["changed"] == changed]
        return [label for label in others if specs[label]["variant"] in OURS]

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

    def measured(
        self, which: str, label: str | None = None, pairs: Sequence[str] | None = None
    ) -> list[tuple[str, int, float]]:
        """(pair, seed, accuracy) of the runs of a label (default: the main one), those that have one."""
        runs = [run for pair in (self.pairs if pairs is None else pairs) for run in self.select(pair, label)]
        found = [(run.pair, run.spec["seed"], run.accuracy(which)) for run in runs]
        return [(pair, seed, value) for pair, seed, value in found if value is not None]

    def mean(self, which: str, *pairs: str) -> MeanSpread | None:
        """Mean and spread of an accuracy of the main runs, over these pairs or over all; None without any."""
        return mean_and_spread(self.measured(which, pairs=pairs or None))

    def partly(self, pair: str) -> tuple[int, int] | None:
        """Of a pair's target: how many of how many scored rows have a label, where only some have one."""
        return next((run.labelled for run in self.select(pair) if run.labelled), None)

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
        gains = {pair: self.mean("last", pair).mean - self.mean("zero_shot", pair).mean for pair in self.pairs}
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
        try:
            run = read_run(folder)
        except RunFolderError as fault:
            left_out.append(f"{folder}: {fault.reason}")
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
        for config in sorted(path.rglob(CONFIG)):
            folders.setdefault(config.parent.resolve(), config.parent)
    return list(folders.values())


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
    """Methods and variants as the recipe has them, cells by their options' values, pairs by domain, seeds upwards."""
    variants = list(experiment.recipe.get("variants", [])) or ["full"]
    methods = list(experiment.recipe.get("methods", [])) or [UNIMOS]
    known = known_datasets().get(experiment.dataset)
    domains = list(load_spec(str(known)).domains) if known else []
    varied = list(dict.fromkeys(name for run in experiment.runs for name in run.spec["changed"]))

    def place(items: list[str], item: str) -> tuple[int, str]:
        return items.index(item) if item in items else len(items), item

    experiment.runs.sort(
        key=lambda run: (
            place(methods, run.method),
            place(variants, run.spec["variant"]),
            [(type(value).__name__, value) for value in map(run.option, varied) if value is not None],
            place(domains, run.spec["source"]),
            place(domains, run.spec["target"]),
            run.spec["seed"],
        )
    )
