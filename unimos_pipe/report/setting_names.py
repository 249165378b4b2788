"""What the settings of an experiment are called, and which of them its headline shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from unimos_pipe.base.method_config import VARIANTS, display_name, method_spec
from unimos_pipe.runs.method_names import UNIMOS, UNIMOS_NAME
from unimos_pipe.runs.read_run import FinishedRun

BASELINES = ("zero-shot", "source-probe")  # what adapts to no target


def by_label(runs: Sequence[FinishedRun]) -> dict[str, FinishedRun]:
    """One run of each label, in the order of the runs."""
    found: dict[str, FinishedRun] = {}
    for run in runs:
        found.setdefault(run.label, run)
    return found


def varied_options(runs: Sequence[FinishedRun]) -> list[str]:
    """The options of UniMoS, by dotted name, in which runs of one variant differ."""
    tuned = [run for run in runs if run.method == UNIMOS]
    names = dict.fromkeys(name for run in tuned for name in run.spec["changed"])
    variants = {run.spec["variant"] for run in tuned}
    return [name for name in names if any(len(_values(tuned, variant, name)) > 1 for variant in variants)]


def _values(runs: Sequence[FinishedRun], variant: str, name: str) -> set[str]:
    return {repr(run.option(name)) for run in runs if run.spec["variant"] == variant}


def names(runs: Sequence[FinishedRun]) -> dict[str, str]:
    """Label -> what readers see: ``UniMoS``, ``UniMoS, no-im``, ``UniMoS, alpha=0.1`` of a grid, ``fused``.

    Options are named where they vary between the runs, and so are protocols.
    """
    first, options = by_label(runs), varied_options(runs)
    protocols = len({run.spec["protocol"] for run in first.values()}) > 1
    methods = [run.method for run in first.values()]
    found = {}
    for label, run in first.items():
        if run.method != UNIMOS:
            found[label] = run.method if methods.count(run.method) == 1 else label.replace(",", ", ")
            continue
        variant = run.spec["variant"]
        parts = [UNIMOS_NAME] if variant == "full" else [UNIMOS_NAME, display_name(variant)]
        parts += [run.spec["protocol"]] if protocols else []
        parts += [_setting(run, name) for name in options if name not in VARIANTS.get(variant, {})]
        found[label] = ", ".join(parts)
    return found


def setting_name(run: FinishedRun, options: Sequence[str]) -> str:
    """``alpha=0.1, beta=2.0``: a run's values of these options."""
    return ", ".join(_setting(run, name) for name in options)


def _setting(run: FinishedRun, name: str) -> str:
    return f"{name.rpartition('.')[2]}={run.option(name)}"


def is_default_setting(run: FinishedRun, options: Sequence[str], recipe: Mapping[str, Any]) -> bool:
    """Whether a run has each of these options where no grid moves it: at the recipe's ``[set]``, else its default."""
    plain = method_spec()

    def home(name: str) -> Any:
        section, _, key = name.partition(".")
        return recipe.get("set", {}).get(section, {}).get(key, getattr(getattr(plain, section, None), key, None))

    return all(run.option(name) == home(name) for name in options)


def headline_settings(runs: Sequence[FinishedRun], recipe: Mapping[str, Any]) -> list[str]:
    """The labels that the headline shows, the first of them also in figures.

    UniMoS's default cell; where no run is of it, every cell. Without UniMoS the first method that is no baseline.
    """
    first = by_label(runs)
    tuned = {label: run for label, run in first.items() if run.method == UNIMOS}
    if not tuned:
        return [next((label for label, run in first.items() if run.method not in BASELINES), next(iter(first)))]
    variants = [run.spec["variant"] for run in tuned.values()]
    variant = "full" if "full" in variants else variants[0]
    options = varied_options(runs)
    cells = [label for label, run in tuned.items() if run.spec["variant"] == variant]
    return [label for label in cells if is_default_setting(tuned[label], options, recipe)] or cells
