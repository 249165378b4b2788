"""Names of label-free validators, in the order of tables; evaluation/ computes their scores."""

from collections.abc import Callable, Mapping
from typing import Any

from unimos_pipe.base import plugins
from unimos_pipe.base.errors import InputError, short_repr, suggestions

SOURCE_VALIDATORS = ("source", "dev")  # scored where the run holds out source rows
EPOCH_VALIDATORS = ("im", "entropy", "bnm", "snd", *SOURCE_VALIDATORS)  # scored at every epoch of UniMoS
VALIDATORS = (*EPOCH_VALIDATORS, "rankme", "agreement")  # scored at the last epoch of every method; in runs.csv
ENSV = "ensv"  # compares runs with each other, so that a run alone has no score


def epoch_validators() -> tuple[str, ...]:
    """Return the validators of every epoch, those from outside the package last."""
    return (*EPOCH_VALIDATORS, *plugins.outside_names(plugins.VALIDATORS))


def last_epoch_validators() -> tuple[str, ...]:
    """Return the validators of the last epoch, those from outside the package last."""
    return (*VALIDATORS, *plugins.outside_names(plugins.VALIDATORS))


def register_validator(name: str, score: Callable) -> None:
    """Make a label-free validator known by name: to runs, sweeps, recipes, reports and completion.

    Args:
        name: letters, digits and '_'.
        score: ``score(probabilities, features)`` -> a number; higher is better. It takes the target's (n, K)
            probabilities and (n, H) bottleneck features at every epoch of UniMoS; after the fit of another method,
            whose features are its probabilities.
    Raises:
        InputError: a name that a shipped validator has.
    """
    if not name.isidentifier() or name in (*VALIDATORS, ENSV, "oracle", "probes"):
        raise InputError(f"validator {name!r}", expected="a Python name that no shipped validator has")
    plugins.add_validator(plugins.OutsideValidator(name, score))


def selection_fault(select: str, settings: Mapping[str, Any]) -> str | None:
    """Return why a validator cannot select a recipe's headline, or None; an empty name selects nothing.

    Args:
        settings: the recipe's options, and lists of values of its grid, by dotted name.
    """
    known = (*last_epoch_validators(), ENSV) if select else ()
    if select and select not in known:
        return f"select: no validator {short_repr(select)}; {suggestions(select, known)}"
    if select in SOURCE_VALIDATORS and not settings.get("train.source_holdout"):
        return f"select: {select} needs held-out source rows; set options.train.source_holdout, such as 0.2"
    return None
