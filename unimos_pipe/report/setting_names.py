"""Display names of settings, and the settings that the headline shows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unimos_pipe.base.method_config import VARIANTS, display_name, method_spec
from unimos_pipe.runs.method_names import UNIMOS, UNIMOS_NAME
from unimos_pipe.runs.read_run import FinishedRun

BASELINES = ("zero-shot", "source-probe")  # methods that do not adapt to the target


def first_run_by_label(runs: Sequence[FinishedRun]) -> dict[str, FinishedRun]:
    """Return label -> its first run, in the order of the runs."""
    first_runs: dict[str, FinishedRun] = {}
    for run in runs:
        first_runs.setdefault(run.label, run)
    return first_runs


def varied_options(runs: Sequence[FinishedRun]) -> list[str]:
    """Return the dotted names of UniMoS's options in which runs of one variant differ."""
    unimos_runs = [run for run in runs if run.method == UNIMOS]
    names = dict.fromkeys(name for run in unimos_runs for name in run.spec.changed)
    variants = {run.spec.variant for run in unimos_runs}
    return [name for name in names if any(len(_option_values(unimos_runs, variant, name)) > 1 for variant in variants)]


def _option_values(runs: Sequence[FinishedRun], variant: str, name: str) -> set[str]:
    return {repr(run.option(name)) for run in runs if run.spec.variant == variant}


def display_names(runs: Sequence[FinishedRun]) -> dict[str, str]:
    """Return label -> display name, such as ``UniMoS``, ``UniMoS, no-im``, ``UniMoS, alpha=0.1`` or ``fused``.

    Options and the protocol are part of the name if they vary between the runs.
    """
    first_runs, options = first_run_by_label(runs), varied_options(runs)
    protocols = len({run.spec.protocol for run in first_runs.values()}) > 1
    methods = [run.method for run in first_runs.values()]
    names = {}
    for label, run in first_runs.items():
        if run.method != UNIMOS:
            names[label] = run.method if methods.count(run.method) == 1 else label.replace(",", ", ")
            continue
        variant = run.spec.variant
        parts = [UNIMOS_NAME] if variant == "full" else [UNIMOS_NAME, display_name(variant)]
        parts += [run.spec.protocol] if protocols else []
        parts += [_format_option(run, name) for name in options if name not in VARIANTS.get(variant, {})]
        names[label] = ", ".join(parts)
    return names


def format_pair(pair: str) -> str:
    """Return ``source → target`` of ``source->target``."""
    return pair.replace("->", " → ")


def format_options(run: FinishedRun, options: Sequence[str]) -> str:
    """Return a run's values of these options, such as ``alpha=0.1, beta=2.0``."""
    return ", ".join(_format_option(run, name) for name in options)


def _format_option(run: FinishedRun, name: str) -> str:
    return f"{name.rpartition('.')[2]}={run.option(name)}"


def is_default_setting(run: FinishedRun, options: Sequence[str], recipe: Mapping[str, Any]) -> bool:
    """Return whether each of these options has the value of the recipe's ``[options]``, else its default."""
    defaults = method_spec()

    def default_value(name: str) -> Any:
        section, _, key = name.partition(".")
        return recipe.get("options", {}).get(section, {}).get(key, getattr(getattr(defaults, section, None), key, None))

    return all(run.option(name) == default_value(name) for name in options)


def headline_settings(runs: Sequence[FinishedRun], recipe: Mapping[str, Any]) -> list[str]:
    """Return the labels that the headline shows; figures show the first one.

    This is UniMoS at its default options. If no run has these, it is every UniMoS label of the variant. Without
    UniMoS it is the first method that is not a baseline.
    """
    first_runs = first_run_by_label(runs)
    unimos_runs = {label: run for label, run in first_runs.items() if run.method == UNIMOS}
    if not unimos_runs:
        return [
            next((label for label, run in first_runs.items() if run.method not in BASELINES), next(iter(first_runs)))
        ]
    variants = [run.spec.variant for run in unimos_runs.values()]
    variant = "full" if "full" in variants else variants[0]
    options = varied_options(runs)
    labels = [label for label, run in unimos_runs.items() if run.spec.variant == variant]
    return [label for label in labels if is_default_setting(unimos_runs[label], options, recipe)] or labels


def shorten_paths(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the shortest suffixes of the paths that distinguish them, such as ``a/icons`` and ``b/icons``."""
    parts = [path.resolve().parts for path in paths]
    for count in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len({*names}) == len({*parts}):
            return tuple(names)
    return tuple(map(str, paths))
