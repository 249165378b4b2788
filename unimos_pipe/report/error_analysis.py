"""Error analysis of a pair: accuracy by class, confusions, disagreements of the two branches."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unimos_pipe.runs.read_run import FinishedRun
from unimos_pipe.runs.statistics import wilson_interval

MAX_BARS = 40  # most classes in a bar chart
CONFUSION_CLASSES = 10  # classes in the confusion matrix
MAX_IMAGES = 18  # most images in a list on the page


@dataclass(frozen=True)
class BranchPrediction:
    """A predicted class with its probability."""

    predicted: str
    probability: float
    correct: bool | None  # None without a label


@dataclass(frozen=True)
class Disagreement:
    """A target image that VAC and LAC classify differently; ``thumbnail`` is a data URL or empty."""

    path: str
    vac: BranchPrediction
    lac: BranchPrediction
    ensemble: BranchPrediction
    truth: str | None
    thumbnail: str = ""

    @property
    def predictions(self) -> list[tuple[str, BranchPrediction, str]]:
        """(branch, prediction, colour name) of the two branches and their ensemble."""
        return [("VAC", self.vac, "vac"), ("LAC", self.lac, "lac"), ("ensemble", self.ensemble, "all")]


@dataclass(frozen=True)
class DisagreementCounts:
    """Number of rows on which the branches disagree, and of correct predictions there (None without labels)."""

    rows: int
    differ: int
    vac_correct: int | None
    lac_correct: int | None
    ensemble_correct: int | None


def find_disagreements(run: FinishedRun, limit: int = MAX_IMAGES) -> tuple[list[Disagreement], DisagreementCounts]:
    """Return the rows on which the branches disagree, most confident first, and counts over all such rows.

    The confidence of a row is the smaller probability of the two branches.
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
    """Return classes by gain over zero-shot, best first, and mean accuracies of last epoch and zero-shot (fractions).

    Classes without a row are excluded. At most :data:`MAX_BARS` are returned, those that changed most.
    """
    ours = np.array([run.per_class("last") for run in runs], float).mean(0)  # None becomes NaN
    zero = np.array([run.per_class("zero_shot") for run in runs], float).mean(0)
    gain = ours - zero
    finite = np.flatnonzero(np.isfinite(gain))
    largest = finite[np.argsort(-np.abs(gain[finite]), kind="stable")][:MAX_BARS]
    order = largest[np.argsort(-gain[largest], kind="stable")]
    names = runs[0].classes
    return [names[k] for k in order], ours[order].tolist(), zero[order].tolist()


def significant_gains(
    run: FinishedRun, names: Sequence[str], ours: Sequence[float], zero_shot: Sequence[float]
) -> list[bool]:
    """Return for each class whether the 95% Wilson intervals of both accuracies, over its rows, do not overlap.

    The two are of the same rows, so that a test of pairs would find more; it needs zero-shot's predictions, which a run
    does not keep.
    """
    rows = Counter(row["label"] for row in run.predictions)
    significant = []
    for name, first, second in zip(names, ours, zero_shot, strict=True):
        low, high = sorted((first, second))
        significant.append(wilson_interval(low, rows[name])[1] < wilson_interval(high, rows[name])[0])
    return significant


def classes_by_method(runs_by_method: Mapping[str, Sequence[FinishedRun]]) -> tuple[np.ndarray, list[str]]:
    """Return (R, C) mean accuracies in % of R classes by C methods, and the names of the classes.

    Classes without a row are excluded. At most :data:`MAX_BARS` are returned, those on which methods differ most.
    """
    columns = [np.array([run.per_class("last") for run in runs], float).mean(0) for runs in runs_by_method.values()]
    values = 100 * np.stack(columns, 1)
    finite = np.flatnonzero(np.isfinite(values).all(1))
    ranges = np.ptp(values[finite], axis=1)
    selected = np.sort(finite[np.argsort(-ranges, kind="stable")][:MAX_BARS])
    names = next(iter(runs_by_method.values()))[0].classes
    return values[selected], [names[k] for k in selected]


def worst_confusions(runs: Sequence[FinishedRun]) -> tuple[np.ndarray, list[str], list[str]]:
    """Return the confusion matrix of the least accurate classes, in % of each class's rows over all runs.

    Returns:
        (R, C) percentages; the R true classes, lowest accuracy first; the C predicted classes: the same classes, the
        three most frequent wrong ones among the others, and ``other``.
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
