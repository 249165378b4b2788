"""Command lines that reproduce an experiment's runs."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unimos_pipe.base.method_config import DEFAULT_TEMPLATE
from unimos_pipe.data.dataset_spec import find_spec_files
from unimos_pipe.report.experiment import Experiment
from unimos_pipe.runs.method_names import UNIMOS
from unimos_pipe.runs.read_run import FinishedRun


def reproduce_commands(experiment: Experiment, recipe_file: Path, cache: Path | None) -> list[str]:
    """Return the sweep of the recipe; without a recipe an ``adapt`` for each label and pair.

    Args:
        recipe_file: where the report stores the recipe.
        cache: feature cache; None for the default one.
    """
    cache_option = ["--cache", str(cache)] if cache else []
    if has_recipe(experiment):
        runs_option = (
            ["--runs", str(experiment.root.parent)] if experiment.root.name == experiment.recipe["name"] else []
        )
        probes_option = ["--show", "probes"] if experiment.baselines else []
        return [shlex.join(["unimos-pipe", "sweep", str(recipe_file), *runs_option, *probes_option, *cache_option])]
    is_custom = experiment.dataset not in find_spec_files()
    lines = (
        [f"# {experiment.dataset} is a custom data set: replace {experiment.dataset}.toml by the path of its spec"]
        if is_custom
        else []
    )
    for label in experiment.labels:
        for pair in experiment.pairs_of(label):
            lines += [
                shlex.join(words + cache_option)
                for words in _adapt_commands(experiment, experiment.select(pair, label))
            ]
    return lines


def has_recipe(experiment: Experiment) -> bool:
    """Return whether the experiment has a sweep's complete recipe."""
    return all(isinstance(experiment.recipe.get(name), str) for name in ("name", "dataset"))


def _adapt_commands(experiment: Experiment, runs: Sequence[FinishedRun]) -> list[list[str]]:
    """Return one command for runs of consecutive seeds in one folder, else one for each run."""
    seeds = [run.spec["seed"] for run in runs]
    in_layout = [run.folder.resolve().is_relative_to(experiment.root / experiment.dataset) for run in runs]
    if all(in_layout) and seeds == list(range(seeds[0], seeds[0] + len(seeds))):
        seed_options = ["--seed", str(seeds[0])] if seeds[0] else []
        seed_options += ["--seeds", str(len(seeds))] if len(seeds) > 1 else []
        return [[*_adapt_words(runs[0]), *seed_options, "--runs", str(experiment.root)]]
    return [[*_adapt_words(run), "--seed", str(run.spec["seed"]), "--out", str(run.folder)] for run in runs]


def _adapt_words(run: FinishedRun) -> list[str]:
    spec = run.spec
    dataset = spec["dataset"] if spec["dataset"] in find_spec_files() else f"{spec['dataset']}.toml"
    words = ["unimos-pipe", "adapt", "--dataset", dataset]
    for source in spec["source"].split("+"):
        words += ["--src", source]
    words += ["--tgt", spec["target"], "--encoder-id", spec["encoder_id"]]
    words += [word for text in spec["templates"] if text != DEFAULT_TEMPLATE for word in ("--template", text)]
    if spec["method"] != UNIMOS:
        words += ["--method", spec["method"]]
        words += ["--label-set", spec["label_set"]] if spec.get("label_set") else []
    words += ["--variant", spec["variant"]] if spec["variant"] not in ("", "full") else []
    words += ["--protocol", spec["protocol"]]
    words += [] if spec.get("calibrate") else ["--no-calibrate"]
    for name, value in spec["changed"].items():
        words += ["--set", f"{name}={json.dumps(value) if isinstance(value, bool) else value}"]
    return words


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
