"""Runs of one data set and encoder: their settings, pairs and means."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from unimos_pipe.base.errors import Argument, InputError, join_names
from unimos_pipe.base.method_config import OUR_VARIANTS
from unimos_pipe.report.setting_names import (
    BASELINES,
    display_names,
    first_run_by_label,
    headline_settings,
    is_default_setting,
    varied_options,
)
from unimos_pipe.report.setting_scores import gather_candidates, select_setting
from unimos_pipe.runs.method_names import UNIMOS
from unimos_pipe.runs.read_run import FinishedRun
from unimos_pipe.runs.statistics import MeanStd, mean_and_std


@dataclass
class Experiment:
    """Runs below one root that share data set and encoder, all with target labels or all without.

    A *label* names the setting of a run: method, variant and changed options. Scores are the data set's published
    metric as fractions, see :attr:`metric`.
    """

    root: Path
    runs: list[FinishedRun]
    recipe: dict[str, Any] = field(default_factory=dict)
    baselines: dict[str, float] = field(default_factory=dict)  # pair -> accuracy of the sweep's source-probe
    title_suffix: str = ""  # set where several experiments have one title

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self.runs[0].spec.dataset

    @property
    def model(self) -> str:
        """Name of the encoder's model."""
        return self.runs[0].config.encoder["model"]

    @property
    def metric(self) -> str:
        """The data set's published metric: ``accuracy`` or ``per_class_mean``."""
        return self.runs[0].result.metric

    @property
    def metric_name(self) -> str:
        """Display name of the metric, capitalised."""
        return "Accuracy" if self.metric == "accuracy" else "Mean of the classes' accuracies"

    @property
    def labelled(self) -> bool:
        """True if the targets have labels, so that accuracies are known."""
        return bool(self.runs[0].result.accuracy)

    @property
    def title(self) -> str:
        """The recipe's title or name, else data set and model."""
        name = self.recipe.get("title") or self.recipe.get("name") or f"{self.dataset}, {self.model}"
        return f"{name}{self.title_suffix}"

    @cached_property
    def display_names(self) -> dict[str, str]:
        """Label -> display name; that of a selected headline names the validator."""
        names = display_names(self.runs)
        if self.selected_setting is not None:
            names[self.selected_setting] += f" (selected by {self.recipe['select']})"
        return names

    @cached_property
    def selected_setting(self) -> str | None:
        """Label that the recipe's ``select`` picks among the configurations of the default's variant; else None."""
        default = first_run_by_label(self.runs)[headline_settings(self.runs, self.recipe)[0]]
        variant = default.method, default.spec.variant
        labels = [run.label for run in self.runs if (run.method, run.spec.variant) == variant]
        if not self.recipe.get("select") or len({*labels}) < 2:
            return None
        return select_setting(gather_candidates(self.runs, list(dict.fromkeys(labels))), str(self.recipe["select"]))

    @cached_property
    def headline_settings(self) -> list[str]:
        """Labels of the headline: the selected one, UniMoS at its default options, or every label without such runs."""
        return [self.selected_setting] if self.selected_setting else headline_settings(self.runs, self.recipe)

    @property
    def default_setting(self) -> str:
        """Label that figures show: the first of the headline."""
        return self.headline_settings[0]

    @property
    def default_setting_name(self) -> str:
        """Display name of the default setting."""
        return self.display_names[self.default_setting]

    @cached_property
    def has_unimos(self) -> bool:
        """True if the default setting is UniMoS, so that epochs and branches can be shown."""
        return self.method_of(self.default_setting) == UNIMOS

    @cached_property
    def labels(self) -> list[str]:
        """All labels in the order of the runs, the headline's first."""
        return list(dict.fromkeys([*self.headline_settings, *(run.label for run in self.runs)]))

    @cached_property
    def comparable_settings(self) -> list[str]:
        """Labels of the table of methods: the headline, variants of UniMoS at the default options, other methods."""
        options, first_runs = varied_options(self.runs), first_run_by_label(self.runs)
        default_labels = {
            label
            for label, run in first_runs.items()
            if run.method != UNIMOS or is_default_setting(run, options, self.recipe)
        }
        return [label for label in self.labels if label in default_labels or label in self.headline_settings]

    @cached_property
    def compared_settings(self) -> list[str]:
        """Labels of further columns of the headline table: methods that adapt, and extensions of UniMoS."""
        first_runs = first_run_by_label(self.runs)
        others = [label for label in self.comparable_settings if label not in self.headline_settings]
        return [
            label
            for label in others
            if (
                first_runs[label].method not in BASELINES
                if first_runs[label].method != UNIMOS
                else _is_extension(first_runs[label])
            )
        ]

    def method_of(self, label: str) -> str:
        """Name of the method of a label."""
        return next(run.method for run in self.runs if run.label == label)

    @cached_property
    def pairs(self) -> list[str]:
        """Pairs that have a run of the default setting, in the order of the runs."""
        return self.pairs_of(self.default_setting)

    def pairs_of(self, label: str) -> list[str]:
        """Pairs that have a run of a label, in the order of the runs."""
        return list(dict.fromkeys(run.pair for run in self.runs if run.label == label))

    def select(self, pair: str, label: str | None = None) -> list[FinishedRun]:
        """Runs of a pair and label (default: the default setting), sorted by seed."""
        return self._runs_by_pair_and_label.get((pair, label or self.default_setting), [])

    @cached_property
    def _runs_by_pair_and_label(self) -> dict[tuple[str, str], list[FinishedRun]]:
        """(pair, label) -> runs, sorted by seed."""
        runs: dict[tuple[str, str], list[FinishedRun]] = {}
        for run in sorted(self.runs, key=lambda run: run.spec.seed):
            runs.setdefault((run.pair, run.label), []).append(run)
        return runs

    def runs_of(self, label: str) -> list[FinishedRun]:
        """All runs of a label, in the order of pairs and seeds."""
        return [run for run in self.runs if run.label == label]

    def scores(
        self, which: str, label: str | None = None, pairs: Sequence[str] | None = None
    ) -> list[tuple[str, int, float]]:
        """(pair, seed, score) of a label's runs that have the score (default: the default setting).

        Args:
            which: last, oracle_best, zero_shot, vac or lac.
        """
        chosen = self.pairs_of(label or self.default_setting) if pairs is None else pairs
        scores = [(run.pair, run.spec.seed, run.score(which)) for pair in chosen for run in self.select(pair, label)]
        return [(pair, seed, value) for pair, seed, value in scores if value is not None]

    def mean(self, which: str, label: str | None = None, pairs: Sequence[str] | None = None) -> MeanStd | None:
        """Mean and standard deviation of a score over pairs (default: all of the label); None if a pair lacks it."""
        scores = self.scores(which, label, pairs)
        if pairs is not None and {pair for pair, _, _ in scores} != {*pairs}:
            return None
        return mean_and_std(scores)

    def baseline(self, name: str, pair: str) -> float | None:
        """Score of zero-shot or source-probe on a pair: of its own runs, else as stored by other runs or the sweep."""
        method_labels = [label for label, run in first_run_by_label(self.runs).items() if run.method == name]
        mean = self.mean("last", method_labels[0], [pair]) if method_labels else None
        if mean is None and name == "zero-shot":
            labels = [label for label in self.labels if self.select(pair, label)]
            mean = self.mean("zero_shot", labels[0], [pair]) if labels else None
        if mean is None and name == "source-probe":
            return self.baselines.get(pair)
        return mean and mean.mean

    def label_counts(self, pair: str) -> tuple[int, int] | None:
        """(labelled rows, scored rows) of a pair's target if only some have a label, else None."""
        return next((run.labelled for run in self.select(pair) if run.labelled), None)

    def choose_pair(self, wanted: str | None) -> str:
        """Return the pair that figures show: ``wanted``, else the one with the largest gain over zero-shot.

        Without zero-shot it is the one with the highest score.

        Raises:
            InputError: no run of that pair.
        """
        if wanted is not None:
            name = "->".join(part.strip() for part in wanted.split("->"))
            if name not in self.pairs:
                raise InputError(
                    (
                        Argument("pair"),
                        f" {wanted}: no {self.default_setting} run of it; there are {join_names(self.pairs, 20)}",
                    )
                )
            return name
        if not self.labelled:
            return self.pairs[0]
        text = {pair: self.baseline("zero-shot", pair) or 0.0 for pair in self.pairs}
        return max(self.pairs, key=lambda pair: self.mean("last", None, [pair]).mean - text[pair])


def _is_extension(run: FinishedRun) -> bool:
    return run.spec.variant in OUR_VARIANTS
