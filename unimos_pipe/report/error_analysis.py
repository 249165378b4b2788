"""Where a pair's answers go wrong: classes against zero-shot, confusions, and where the two branches disagree."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unimos_pipe.report.experiment import FinishedRun

BARS = 40  # most classes in the bar chart
WORST = 10  # classes in the confusion matrix
SHOWN = 18  # disagreements on the page


@dataclass(frozen=True)
class BranchPrediction:
    """One answer with its probability."""

    answer: str
    probability: float
    right: bool | None  # None where the truth is not known


@dataclass(frozen=True)
class Disagreement:
    """A target image that VAC and LAC classify differently; ``thumbnail`` is a data address, or empty."""

    path: str
    vac: BranchPrediction
    lac: BranchPrediction
    ensemble: BranchPrediction
    truth: str | None
    thumbnail: str = ""

    @property
    def answers(self) -> list[tuple[str, BranchPrediction, str]]:
        """Who answers what, and the name of its colour."""
        return [("VAC", self.vac, "vac"), ("LAC", self.lac, "lac"), ("ensemble", self.ensemble, "all")]


@dataclass(frozen=True)
class DisagreementCounts:
    """How many rows the branches disagree on, and who is right there (None without labels)."""

    rows: int
    differ: int
    vac_right: int | None
    lac_right: int | None
    ensemble_right: int | None


def disagreements(run: FinishedRun, limit: int = SHOWN) -> tuple[list[Disagreement], DisagreementCounts]:
    """The rows on which the branches differ although both are sure, the surest first, and a tally over all such rows.

    A row's sureness is the smaller of the two branches' probabilities.
    """
    rows = [row for row in run.predictions if row["vac"] != row["lac"]]
    found = [_disagreement(row) for row in rows]
    labelled = all(item.truth is not None for item in found)
    counts = {
        name: sum(bool(getattr(item, name).right) for item in found) if labelled else None
        for name in ("vac", "lac", "ensemble")
    }
    tally = DisagreementCounts(len(run.predictions), len(found), counts["vac"], counts["lac"], counts["ensemble"])
    found.sort(key=lambda item: -min(item.vac.probability, item.lac.probability))
    return found[:limit], tally


def _disagreement(row: dict[str, str]) -> Disagreement:
    truth = row.get("label") or None

    def branch(name: str, probability: str) -> BranchPrediction:
        return BranchPrediction(row[name], float(row[probability]), None if truth is None else row[name] == truth)

    return Disagreement(
        row["path"],
        branch("vac", "vac_probability"),
        branch("lac", "lac_probability"),
        branch("class", "probability"),
        truth,
    )


def class_changes(runs: Sequence[FinishedRun]) -> tuple[list[str], list[float], list[float]]:
    """Classes by gain over zero-shot, best first, with mean accuracies of last epoch and zero-shot (fractions).

    Classes without a row are left out; of more than :data:`BARS`, those that changed most stay.
    """
    ours = np.array([run.per_class("last") for run in runs], float).mean(0)  # None becomes NaN
    zero = np.array([run.per_class("zero_shot") for run in runs], float).mean(0)
    gain = ours - zero
    there = np.flatnonzero(np.isfinite(gain))
    kept = there[np.argsort(-np.abs(gain[there]), kind="stable")][:BARS]
    order = kept[np.argsort(-gain[kept], kind="stable")]
    names = runs[0].classes
    return [names[k] for k in order], ours[order].tolist(), zero[order].tolist()


def classes_by_method(found: Mapping[str, Sequence[FinishedRun]]) -> tuple[np.ndarray, list[str]]:
    """(R, C) mean accuracies in % of a pair's classes in R rows by each named method's runs in C columns, and the rows.

    Classes without a row are left out; of more than :data:`BARS`, those on which the methods differ most stay.
    """
    columns = [np.array([run.per_class("last") for run in runs], float).mean(0) for runs in found.values()]
    values = 100 * np.stack(columns, 1)
    there = np.flatnonzero(np.isfinite(values).all(1))
    apart = np.ptp(values[there], axis=1)
    kept = np.sort(there[np.argsort(-apart, kind="stable")][:BARS])
    names = next(iter(found.values()))[0].classes
    return values[kept], [names[k] for k in kept]


def worst_confusions(runs: Sequence[FinishedRun]) -> tuple[np.ndarray, list[str], list[str]]:
    """Where the rows of the worst classes go, in % of each class's rows over all runs.

    Returns:
        (R, C) percentages, the R true classes (lowest accuracy first), and the C answers: the same classes and the
        commonest wrong answers, then ``other``.
    """
    pairs = Counter((row["label"], row["class"]) for run in runs for row in run.predictions if row["label"])
    totals = Counter(label for (label, _), count in pairs.items() for _ in range(count))
    worst = sorted(totals, key=lambda name: (pairs[name, name] / totals[name], name))[:WORST]
    wrong = Counter()
    for (label, answer), count in pairs.items():
        if label in worst and answer not in worst:
            wrong[answer] += count
    extra = [name for name, _ in sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:3]]
    columns = worst + extra
    shares = np.array([[pairs[label, answer] / totals[label] for answer in columns] for label in worst])
    rest = 1 - shares.sum(1, keepdims=True)
    return 100 * np.hstack([shares, rest.clip(0)]), worst, [*columns, "other"]
