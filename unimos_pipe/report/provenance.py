"""Provenance of the runs: recipe, protocol, versions, digests, hardware, times, citations."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from unimos_pipe.base.dataclass_parsing import fingerprint
from unimos_pipe.base.method_config import MethodSpec
from unimos_pipe.report.experiment import Experiment
from unimos_pipe.runs.method_names import CITATIONS, UNIMOS, UNIMOS_NAME
from unimos_pipe.runs.read_run import FinishedRun
from unimos_pipe.runs.source_digest import changed_modules


def collect_provenance(experiment: Experiment) -> list[tuple[str, list[str]]]:
    """Return (name, lines) in the order of the page."""
    runs = experiment.runs
    first = runs[0]
    encoder = first.config.encoder
    environments = [run.config.environment for run in runs]
    seconds = [run.result.seconds for run in runs]
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
        ("seeds", [", ".join(sorted({str(run.spec.seed) for run in runs}, key=int))]),
        ("protocol", _distinct(run.result.protocol for run in runs)),
        ("prompts", _distinct(text for run in runs for text in run.spec.templates)),
        ("encoder", [", ".join(encoder[name] for name in ("model", "activation", "precision") if encoder[name])]),
        ("weights", [f"sha256 {encoder['weights_sha256']}"] if encoder["weights_sha256"] else []),
        ("features", [_format_shard_digests(experiment)]),
        ("versions", _distinct(_format_versions(environment) for environment in environments)),
        ("code", _describe_code(runs)),
        (
            "hardware",
            _distinct(f"{environment.get('device')}: {environment.get('hardware')}" for environment in environments),
        ),
        ("training time", [f"{sum(seconds):,.0f} s in total, {sum(seconds) / len(seconds):,.1f} s per run"]),
        ("folder", [str(experiment.root)]),
        ("citations", _list_citations(experiment)),
    ]
    return [(name, lines) for name, lines in facts if lines]


def _distinct(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value is not None))


def _list_citations(experiment: Experiment) -> list[str]:
    """Return the publication of each method, and of zero-shot, which every report shows."""
    methods = dict.fromkeys([*(run.method for run in experiment.runs), "zero-shot"])
    outside = {run.method: run.config.citation for run in experiment.runs if run.config.citation}
    cited = {**outside, **CITATIONS}
    return [f"{UNIMOS_NAME if name == UNIMOS else name}: {cited[name]}" for name in methods if name in cited]


def _format_versions(environment: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {environment[name]}" for name in ("unimos-pipe", "commit", "torch", "python") if environment.get(name)
    )


def _describe_code(runs: Sequence[FinishedRun]) -> list[str]:
    """The source that each method's runs were made by; runs by several, or by other code than is here, are counted."""
    by_method: dict[str, Counter[str]] = {}
    changed: Counter[str] = Counter()
    now: dict[str, tuple[str, ...]] = {}
    for run in runs:
        code = run.config.code
        digest = fingerprint(code)[:12] if code else "not recorded"
        by_method.setdefault(run.method, Counter())[digest] += 1
        if code and digest not in now:
            now[digest] = tuple(changed_modules(code))
        changed.update(now.get(digest, ()))
    lines = []
    for method, digests in by_method.items():
        several = len(digests) > 1
        parts = [f"{digest} ({count} runs)" if several else digest for digest, count in digests.items()]
        warning = ": runs of several versions, not comparable" if several else ""
        lines.append(f"{method} {', '.join(parts)}{warning}")
    if changed:
        modules = ", ".join(f"{module} ({count} runs)" for module, count in changed.items())
        lines.append(f"made by other code than is installed: {modules}")
    return lines


def _format_settings(experiment: Experiment, label: str) -> str:
    """Return UniMoS's options of a label that differ from the defaults."""
    if not experiment.has_unimos:
        return "no options"
    options_by_section = experiment.runs_of(label)[0].spec.options
    defaults = MethodSpec()
    changed = [
        f"{section}.{name} = {value}"
        for section, options in options_by_section.items()
        for name, value in options.items()
        if getattr(getattr(defaults, section, None), name, None) != value
    ]
    return ", ".join(changed) or "default options"


def _format_shard_digests(experiment: Experiment) -> str:
    shards: dict[str, list[str]] = {}
    for run in experiment.runs:
        run_shards = run.config.shards
        shards.update({name: run_shards[name] for name in run_shards if name not in ("text", "source labels")})
    parts = (f"{name} {', '.join(digest[:12] for digest in digests)}" for name, digests in sorted(shards.items()))
    return f"{experiment.runs[0].spec.encoder_id}; shard digests: " + "; ".join(parts)
