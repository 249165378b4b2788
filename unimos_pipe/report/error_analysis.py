"""Where a pair's answers go wrong: classes against zero-shot, confusions, and where the two branches disagree."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unimos_pipe.report.experiment import FinishedRun

MAX_BARS = 40  # most classes in the bar chart
CONFUSION_CLASSES = 10  # classes in the confusion matrix
MAX_IMAGES = 18  # disagreements on the page


@dataclass(frozen=True)
class BranchPrediction:
    """One answer with its probability."""

    predicted: str
    probability: float
    correct: bool | None  # None where the truth is not known


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
    def predictions(self) -> list[tuple[str, BranchPrediction, str]]:
        """Who answers what, and the name of its colour."""
        return [("VAC", self.vac, "vac"), ("LAC", self.lac, "lac"), ("ensemble", self.ensemble, "all")]


@dataclass(frozen=True)
class DisagreementCounts:
    """How many rows the branches disagree on, and who is right there (None without labels)."""

    rows: int
    differ: int
    vac_correct: int | None
    lac_correct: int | None
    ensemble_correct: int | None


def find_disagreements(run: FinishedRun, limit: int = MAX_IMAGES) -> tuple[list[Disagreement], DisagreementCounts]:
    """The rows on which the branches differ although both are sure, the surest first, and a tally over all such rows.

    A row's sureness is the smaller of the two branches' probabilities.
    """
    rows = [row for row in run.predictions if row["vac"] != row["lac"]]
    disagreements = [_disagreement(row) for row in rows]
    labelled = all(item.truth is not None for item in disagreements)
    correct = {
        name: sum(bool(getattr(item, name).correct) for item in disagreements) if labelled else None
        for name in ("vac", "lac", "ensemble")
    }
    counts = DisagreementCounts(
        len(run.predictions), len(disagreements), correct["vac"], correct["lac"], correct["ensemble"]
    )
    disagreements.sort(key=lambda item: -min(item.vac.probability, item.lac.probability))
    return disagreements[:limit], counts


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


def class_gains(runs: Sequence[FinishedRun]) -> tuple[list[str], list[float], list[float]]:
    """Classes by gain over zero-shot, best first, with mean accuracies of last epoch and zero-shot (fractions).

    Classes without a row are left out; of more than :data:`BARS`, those that changed most stay.
    """
    ours = np.array([run.per_class("last") for run in runs], float).mean(0)  # None becomes NaN
    zero = np.array([run.per_class("zero_shot") for run in runs], float).mean(0)
    gain = ours - zero
    finite = np.flatnonzero(np.isfinite(gain))
    largest = finite[np.argsort(-np.abs(gain[finite]), kind="stable")][:MAX_BARS]
    order = largest[np.argsort(-gain[largest], kind="stable")]
    names = runs[0].classes
    return [names[k] for k in order], ours[order].tolist(), zero[order].tolist()


def classes_by_method(runs_by_method: Mapping[str, Sequence[FinishedRun]]) -> tuple[np.ndarray, list[str]]:
    """(R, C) mean accuracies in % of a pair's classes in R rows by each named method's runs in C columns, and the rows.

    Classes without a row are left out; of more than :data:`BARS`, those on which the methods differ most stay.
    """
    columns = [np.array([run.per_class("last") for run in runs], float).mean(0) for runs in runs_by_method.values()]
    values = 100 * np.stack(columns, 1)
    finite = np.flatnonzero(np.isfinite(values).all(1))
    ranges = np.ptp(values[finite], axis=1)
    selected = np.sort(finite[np.argsort(-ranges, kind="stable")][:MAX_BARS])
    names = next(iter(runs_by_method.values()))[0].classes
    return values[selected], [names[k] for k in selected]


def worst_confusions(runs: Sequence[FinishedRun]) -> tuple[np.ndarray, list[str], list[str]]:
    """Where the rows of the worst classes go, in % of each class's rows over all runs.

    Returns:
        (R, C) percentages, the R true classes (lowest accuracy first), and the C answers: the same classes and the
        commonest wrong answers, then ``other``.
    """
    counts = Counter((row["label"], row["class"]) for run in runs for row in run.predictions if row["label"])
    totals = Counter(label for (label, _), count in counts.items() for _ in range(count))
    worst = sorted(totals, key=lambda name: (counts[name, name] / totals[name], name))[:CONFUSION_CLASSES]
    wrong = Counter()
    for (label, predicted), count in counts.items():
        if label in worst and predicted not in worst:
            wrong[predicted] += count
    extra = [name for name, _ in sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:3]]
    columns = worst + extra
    shares = np.array([[counts[label, predicted] / totals[label] for predicted in columns] for label in worst])
    other = 1 - shares.sum(1, keepdims=True)
    return 100 * np.hstack([shares, other.clip(0)]), worst, [*columns, "other"]
