"""Where a pair's answers go wrong: classes against zero-shot, confusions, and where the two branches disagree."""

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unimos_pipe.base.errors import UserError
from unimos_pipe.data.decode import decode
from unimos_pipe.data.manifest import is_name, known_datasets, load_spec
from unimos_pipe.data.scan import domain_folder, find_root
from unimos_pipe.report.runs import Run

BARS = 40  # most classes in the bar chart
WORST = 10  # classes in the confusion matrix
SHOWN = 18  # disagreements on the page
THUMBNAIL = 112  # pixels


@dataclass(frozen=True)
class Branch:
    """One answer with its probability."""

    answer: str
    probability: float
    right: bool | None  # None where the truth is not known


@dataclass(frozen=True)
class Disagreement:
    """A target image that VAC and LAC classify differently; ``thumbnail`` is a data address, or empty."""

    path: str
    vac: Branch
    lac: Branch
    ensemble: Branch
    truth: str | None
    thumbnail: str = ""


@dataclass(frozen=True)
class Tally:
    """How many rows the branches disagree on, and who is right there (None without labels)."""

    rows: int
    differ: int
    vac_right: int | None
    lac_right: int | None
    ensemble_right: int | None


def disagreements(run: Run, limit: int = SHOWN) -> tuple[list[Disagreement], Tally]:
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
    tally = Tally(len(run.predictions), len(found), counts["vac"], counts["lac"], counts["ensemble"])
    found.sort(key=lambda item: -min(item.vac.probability, item.lac.probability))
    return found[:limit], tally


def _disagreement(row: dict[str, str]) -> Disagreement:
    truth = row.get("label") or None

    def branch(name: str, probability: str) -> Branch:
        return Branch(row[name], float(row[probability]), None if truth is None else row[name] == truth)

    return Disagreement(
        row["path"],
        branch("vac", "vac_probability"),
        branch("lac", "lac_probability"),
        branch("class", "probability"),
        truth,
    )


def image_folder(run: Run, data_root: Path | None, cache: Path) -> Path | None:
    """Where the target's images are, as far as that can be found out; None where they are not here."""
    target = str(run.spec["target"])
    known = known_datasets().get(run.spec["dataset"])
    if known is None:
        there = data_root is not None and is_name(target) and (data_root / target).is_dir()
        return data_root / target if there else None
    try:
        spec = load_spec(str(known))
        return domain_folder(spec, target, find_root(spec, data_root, cache))
    except (UserError, OSError):
        return None


def thumbnail(folder: Path, path: str) -> str:
    """A small JPEG of an image as a ``data:`` address; empty if it cannot be read or lies outside the folder."""
    file = (folder / path).resolve()
    if not file.is_relative_to(folder.resolve()):
        return ""
    try:
        image = decode(file)
    except Exception:  # decoders raise anything; the row then stands without a picture
        return ""
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()


def class_changes(runs: Sequence[Run]) -> tuple[list[str], list[float], list[float]]:
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


def worst_confusions(runs: Sequence[Run]) -> tuple[np.ndarray, list[str], list[str]]:
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
