"""Table of each method's gain or loss against zero-shot by pair."""

from collections.abc import Mapping, Sequence
from statistics import mean

from unimos_pipe.report.experiment import Experiment
from unimos_pipe.report.setting_names import format_pair
from unimos_pipe.report.table import LOSS, Cell, Table, gain_cell, name_cell

ZERO_SHOT = "zero-shot"


def gain_table(experiment: Experiment) -> Table | None:
    """Return the differences to zero-shot by method and pair; None without zero-shot figures or with a single one."""
    zero_shot = {pair: experiment.baseline(ZERO_SHOT, pair) for pair in experiment.pairs}
    pairs = [pair for pair in experiment.pairs if zero_shot[pair] is not None]
    gains = {
        label: {
            pair: score.mean - zero_shot[pair] for pair in pairs if (score := experiment.mean("last", label, [pair]))
        }
        for label in experiment.comparable_settings
        if experiment.method_of(label) != ZERO_SHOT
    }
    gains = {label: values for label, values in gains.items() if values}
    if sum(map(len, gains.values())) < 2:
        return None
    rows = [_row(experiment.display_names[label], values, pairs) for label, values in gains.items()]
    caption = (
        f"{experiment.metric_name} minus that of zero-shot in points, each method over its own pairs, mean over seeds. "
        "Worst: the pair with the largest loss. Losses: pairs more than 1 point below zero-shot, which are red."
    )
    columns = ("method", "mean", "worst", "losses", *map(format_pair, pairs))
    return Table("gains", "Gain over zero-shot by pair", caption, columns, tuple(rows))


def _row(name: str, gains: Mapping[str, float], pairs: Sequence[str]) -> tuple[Cell, ...]:
    losses = sum(gain < LOSS for gain in gains.values())
    return (
        name_cell(name),
        gain_cell(mean(gains.values())),
        gain_cell(min(gains.values())),
        Cell(str(losses), losses, kind="count"),
        *(gain_cell(gains.get(pair)) for pair in pairs),
    )
