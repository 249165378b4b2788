"""How the runs of a report were made: recipe, commands, protocol, versions, fingerprints, hardware, times."""

import json
import shlex
from collections.abc import Iterable
from typing import Any

from unimos_pipe.base.config import MethodSpec, titled
from unimos_pipe.report.runs import Experiment
from unimos_pipe.runs.methods import UNIMOS


def origin(experiment: Experiment, command: str) -> list[tuple[str, list[str]]]:
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
        ("commands", [*_commands(experiment), command]),
        ("shown in tables", [f"{titled(experiment.main)}: {_settings(experiment)}"]),
        ("seeds", [", ".join(sorted({str(run.spec["seed"]) for run in runs}, key=int))]),
        ("protocol", _distinct(run.result.get("protocol") for run in runs)),
        ("prompts", _distinct(text for run in runs for text in run.spec["templates"])),
        ("encoder", [", ".join(encoder[name] for name in ("model", "activation", "precision") if encoder[name])]),
        ("weights", [f"sha256 {encoder['weights_sha256']}"] if encoder["weights_sha256"] else []),
        ("features", [_shards(experiment)]),
        ("versions", _distinct(_versions(found) for found in environments)),
        ("hardware", _distinct(f"{found.get('device')}: {found.get('hardware')}" for found in environments)),
        ("training time", [f"{sum(seconds):,.0f} s in all, {sum(seconds) / len(seconds):,.1f} s a run"]),
        ("folder", [str(experiment.root)]),
    ]
    return [(name, lines) for name, lines in facts if lines]


def _distinct(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value is not None))


def _versions(environment: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {environment[name]}" for name in ("unimos-pipe", "torch", "python") if name in environment
    )


def _commands(experiment: Experiment) -> list[str]:
    """The command that makes these runs again: the sweep's, or one adapt per label and pair, at most six."""
    if "name" in experiment.recipe:
        return [f"unimos-pipe sweep {shlex.quote(str(experiment.recipe['name']))}"]
    lines = []
    for label in experiment.labels:
        for pair in dict.fromkeys(run.pair for run in experiment.runs if run.label == label):
            found = experiment.select(pair, label)
            spec = found[0].spec
            words = ["unimos-pipe", "adapt", "--dataset", spec["dataset"], "--src", spec["source"]]
            words += ["--tgt", spec["target"], "--encoder-id", spec["encoder_id"]]
            if spec["method"] != UNIMOS:
                words += ["--method", spec["method"]]
                words += ["--target-classes", spec["target_classes"]] if spec.get("target_classes") else []
            words += ["--variant", spec["variant"]] if spec["variant"] not in ("", "full") else []
            words += ["--protocol", spec["protocol"]] if spec.get("protocol") else []
            for name, value in spec["changed"].items():
                words += ["--set", f"{name}={json.dumps(value) if isinstance(value, bool) else value}"]
            words += ["--seed", str(spec["seed"])] if spec["seed"] else []
            words += ["--seeds", str(len(found))] if len(found) > 1 else []
            lines.append(shlex.join(words))
    rest = len(lines) - 6
    return lines if rest <= 0 else [*lines[:6], f"and {rest} more of the same form"]


def _settings(experiment: Experiment) -> str:
    """UniMoS's options of the main runs that differ from the defaults."""
    if not experiment.tuned:
        return "it has no options"
    chosen = next(run.spec["options"] for run in experiment.runs if run.label == experiment.main)
    default = MethodSpec()
    changed = [
        f"{section}.{name} = {value}"
        for section, options in chosen.items()
        for name, value in options.items()
        if getattr(getattr(default, section, None), name, None) != value
    ]
    return ", ".join(changed) or "every option at its default"


def _shards(experiment: Experiment) -> str:
    shards: dict[str, list[str]] = {}
    for run in experiment.runs:
        found = run.config.get("shards", {})
        shards.update({name: found[name] for name in found if name not in ("text", "source labels")})
    parts = (f"{name} {', '.join(digest[:12] for digest in digests)}" for name, digests in sorted(shards.items()))
    return f"{experiment.runs[0].spec['encoder_id']}; shard digests: " + "; ".join(parts)
