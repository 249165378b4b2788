"""Names of label-free validators, in the order of tables; evaluation/ computes their scores."""

from collections.abc import Mapping
from typing import Any

from unimos_pipe.base.errors import short_repr, suggestions

SOURCE_VALIDATORS = ("source", "dev")  # scored where the run holds out source rows
EPOCH_VALIDATORS = ("im", "entropy", "bnm", "snd", *SOURCE_VALIDATORS)  # scored at every epoch of UniMoS
VALIDATORS = (*EPOCH_VALIDATORS, "rankme", "agreement")  # scored at the last epoch of every method; in runs.csv
ENSV = "ensv"  # compares runs with each other, so that a run alone has no score
SELECTION_VALIDATORS = (*VALIDATORS, ENSV)  # select the configuration of a grid


def selection_fault(select: str, settings: Mapping[str, Any]) -> str | None:
    """Return why a validator cannot select a recipe's headline, or None; an empty name selects nothing.

    Args:
        settings: the recipe's options, and lists of values of its grid, by dotted name.
    """
    if select and select not in SELECTION_VALIDATORS:
        return f"select: no validator {short_repr(select)}; {suggestions(select, SELECTION_VALIDATORS)}"
    if select in SOURCE_VALIDATORS and not settings.get("train.source_holdout"):
        return f"select: {select} needs held-out source rows; set options.train.source_holdout, such as 0.2"
    return None
