"""Calls that reproduce an experiment's runs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unimos_pipe.base.errors import Call
from unimos_pipe.report.experiment import Experiment
from unimos_pipe.runs.read_run import FinishedRun
from unimos_pipe.runs.run_calls import adapt_call, dataset_argument


def reproduce_calls(experiment: Experiment, recipe_file: Path, cache: Path | None) -> list[str | Call]:
    """Return the calls that reproduce an experiment's runs, and comments.

    With a recipe that is its sweep; the report keeps the recipe as ``recipe_file``. Without one it is a call for each
    label and pair. ``cache`` is named where it is not the default one.
    """
    if has_recipe(experiment):
        return [_sweep_call(experiment, recipe_file, cache)]
    custom = dataset_argument(experiment.runs[0]) == f"{experiment.dataset}.toml"
    lines: list[str | Call] = []
    if custom:
        lines.append(
            f"# {experiment.dataset} is a custom data set: replace {experiment.dataset}.toml by the path of its spec"
        )
    for label in experiment.labels:
        for pair in experiment.pairs_of(label):
            lines += _adapt_calls(experiment, experiment.select(pair, label), cache)
    return lines


def _sweep_call(experiment: Experiment, recipe_file: Path, cache: Path | None) -> Call:
    recipe = Call("resolve_recipe", {"recipe": recipe_file, "cache": cache}) if cache else recipe_file
    call = Call("run_sweep", {"recipe": recipe})
    if experiment.root.name == experiment.recipe["name"]:
        call = call.replace(runs=experiment.root.parent)
    return call.replace(options=Call("SweepOptions", {"show": ("probes",)})) if experiment.baselines else call


def has_recipe(experiment: Experiment) -> bool:
    """Return whether the experiment has a sweep's complete recipe."""
    return all(isinstance(experiment.recipe.get(name), str) for name in ("name", "dataset"))


def _adapt_calls(experiment: Experiment, runs: Sequence[FinishedRun], cache: Path | None) -> list[Call]:
    """Return one call for runs with consecutive seeds in their common folder, else one for each run."""
    seeds = [run.spec.seed for run in runs]
    in_layout = [run.folder.resolve().is_relative_to(experiment.root / experiment.dataset) for run in runs]
    if all(in_layout) and seeds == list(range(seeds[0], seeds[0] + len(seeds))):
        return [adapt_call(runs[0], seeds, cache, {"runs": experiment.root})]
    return [adapt_call(run, [run.spec.seed], cache, {"out": run.folder}) for run in runs]


def recipe_toml(recipe: Mapping[str, Any]) -> str:
    """Return a sweep's ``recipe.json`` as an equivalent TOML file."""
    tables = {f"options.{section}": options for section, options in recipe.get("options", {}).items()}
    tables |= {"grid": recipe["grid"]} if recipe.get("grid") else {}
    lines = [f"{name} = {_toml(value)}" for name, value in recipe.items() if not isinstance(value, dict)]
    for title, options in tables.items():
        lines += ["", f"[{title}]", *(f"{json.dumps(name)} = {_toml(value)}" for name, value in options.items())]
    return "\n".join(lines).encode("utf-8", "replace").decode() + "\n"


def _toml(value: Any) -> str:
    """Return a TOML value: strings, numbers, booleans and lists are written as in JSON."""
    return json.dumps(value, ensure_ascii=False)
