"""How the runs of a report were made: recipe, protocol, versions, fingerprints, hardware, times, whom to cite."""

import json
from collections.abc import Iterable
from typing import Any

from unimos_pipe.base.method_config import MethodSpec
from unimos_pipe.report.experiment import Experiment
from unimos_pipe.runs.method_names import CITATIONS, UNIMOS, UNIMOS_NAME


def collect_provenance(experiment: Experiment) -> list[tuple[str, list[str]]]:
    """(what, lines) in the order of the page."""
    runs = experiment.runs
    first = runs[0]
    encoder = first.config["encoder"]
    environments = [run.config.get("environment", {}) for run in runs]
    seconds = [run.result["seconds"] for run in runs]
    recipe = experiment.recipe
    facts = [
        ("data set", [experiment.dataset]),
        ("recipe", [f"{recipe['name']}: {json.dumps(recipe, ensure_ascii=False)}"] if "name" in recipe else []),
        (
            "headline",
            [
                f"{experiment.display_names[label]}: {_format_settings(experiment, label)}"
                for label in experiment.headline_settings
            ],
        ),
        ("seeds", [", ".join(sorted({str(run.spec["seed"]) for run in runs}, key=int))]),
        ("protocol", _distinct(run.result.get("protocol") for run in runs)),
        ("prompts", _distinct(text for run in runs for text in run.spec["templates"])),
        ("encoder", [", ".join(encoder[name] for name in ("model", "activation", "precision") if encoder[name])]),
        ("weights", [f"sha256 {encoder['weights_sha256']}"] if encoder["weights_sha256"] else []),
        ("features", [_format_shard_digests(experiment)]),
        ("versions", _distinct(_format_versions(environment) for environment in environments)),
        (
            "hardware",
            _distinct(f"{environment.get('device')}: {environment.get('hardware')}" for environment in environments),
        ),
        ("training time", [f"{sum(seconds):,.0f} s in all, {sum(seconds) / len(seconds):,.1f} s a run"]),
        ("folder", [str(experiment.root)]),
        ("to cite", _list_citations(experiment)),
    ]
    return [(name, lines) for name, lines in facts if lines]


def _distinct(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value is not None))


def _list_citations(experiment: Experiment) -> list[str]:
    """What each method is from; zero-shot is in every report."""
    methods = dict.fromkeys([*(run.method for run in experiment.runs), "zero-shot"])
    return [f"{UNIMOS_NAME if name == UNIMOS else name}: {CITATIONS[name]}" for name in methods if name in CITATIONS]


def _format_versions(environment: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {environment[name]}" for name in ("unimos-pipe", "torch", "python") if name in environment
    )


def _format_settings(experiment: Experiment, label: str) -> str:
    """UniMoS's options of a label's runs that differ from the defaults."""
    if not experiment.has_unimos:
        return "it has no options"
    options_by_section = experiment.runs_of(label)[0].spec["options"]
    defaults = MethodSpec()
    changed = [
        f"{section}.{name} = {value}"
        for section, options in options_by_section.items()
        for name, value in options.items()
        if getattr(getattr(defaults, section, None), name, None) != value
    ]
    return ", ".join(changed) or "every option at its default"


def _format_shard_digests(experiment: Experiment) -> str:
    shards: dict[str, list[str]] = {}
    for run in experiment.runs:
        run_shards = run.config.get("shards", {})
        shards.update({name: run_shards[name] for name in run_shards if name not in ("text", "source labels")})
    parts = (f"{name} {', '.join(digest[:12] for digest in digests)}" for name, digests in sorted(shards.items()))
    return f"{experiment.runs[0].spec['encoder_id']}; shard digests: " + "; ".join(parts)
