"""Calls that reproduce an experiment's runs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unimos_pipe.base.errors import Call
from unimos_pipe.base.method_config import DEFAULT_TEMPLATE
from unimos_pipe.data.dataset_spec import find_spec_files
from unimos_pipe.report.experiment import Experiment
from unimos_pipe.runs.method_names import UNIMOS
from unimos_pipe.runs.read_run import FinishedRun


def reproduce_calls(experiment: Experiment, recipe_file: Path, cache: Path | None) -> list[str | Call]:
    """Return the calls that reproduce an experiment's runs, and comments.

    With a recipe that is its sweep; the report keeps the recipe as ``recipe_file``. Without one it is a call for each
    label and pair. ``cache`` is named where it is not the default one.
    """
    if has_recipe(experiment):
        return [_sweep_call(experiment, recipe_file, cache)]
    custom = experiment.dataset not in find_spec_files()
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
        return [_adapt_call(runs[0], seeds, cache, {"runs": experiment.root})]
    return [_adapt_call(run, [run.spec.seed], cache, {"out": run.folder}) for run in runs]


def _adapt_call(run: FinishedRun, seeds: Sequence[int], cache: Path | None, location: dict[str, Path]) -> Call:
    spec = run.spec
    features: dict[str, Any] = {
        "dataset": spec.dataset if spec.dataset in find_spec_files() else f"{spec.dataset}.toml",
        "encoder_id": spec.encoder_id,
    }
    features |= {"templates": spec.templates} if spec.templates != (DEFAULT_TEMPLATE,) else {}
    features |= {"cache": cache} if cache else {}
    training: dict[str, Any] = {"method": spec.method} if spec.method != UNIMOS else {}
    training |= {"label_set": spec.label_set} if spec.label_set else {}
    training |= {"variant": spec.variant} if spec.variant not in ("", "full") else {}
    training |= {"protocol": spec.protocol}
    training |= {} if spec.calibrate else {"calibrate": False}
    training |= {"settings": dict(spec.changed)} if spec.changed else {}
    training |= {"seeds": tuple(seeds)} if tuple(seeds) != (0,) else {}
    return Call(
        "adapt_pairs",
        {
            "features": Call("feature_set", features),
            "pairs": [(spec.source, spec.target)],
            "options": Call("AdaptOptions", training),
            "location": Call("RunLocation", location),
        },
    )


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
