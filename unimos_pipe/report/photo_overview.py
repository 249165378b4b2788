"""Overview of photos without labels, or with some: how many of each class, how sure, a gallery, the doubtful ones."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unimos_pipe.data.manifest import UNKNOWN_CLASS
from unimos_pipe.report.experiment import Experiment
from unimos_pipe.runs.read_run import FinishedRun

MAX_CLASSES = 40  # classes with a bar and a gallery
GALLERY, DOUBTFUL = 8, 16  # photos of a class, and of the list of doubtful ones
BANDS = ((0.95, "95% and more"), (0.8, "80% to 95%"), (0.5, "50% to 80%"), (0.0, "below 50%"))
SURE, UNSURE = 0.9, 0.5  # probabilities of the tiles


@dataclass(frozen=True)
class Bar:
    """A bar: name, number and share of photos, share of the source (None: not a class of it), lengths in percent."""

    name: str
    count: int
    share: float
    source: float | None
    width: float
    mark: float | None

    @property
    def text(self) -> str:
        """``41% of the photos (234)``, and for a class of the source ``, 16% of your labelled set``."""
        source = "" if self.source is None else f", {_percent(self.source)} of your labelled set"
        return f"{_percent(self.share)} of the photos ({self.count:,}){source}"


@dataclass(frozen=True)
class ShownPhoto:
    """A photo with its prediction; ``label`` is empty without one, ``thumbnail`` a data URL or empty."""

    path: str
    predicted: str
    probability: float
    label: str
    thumbnail: str

    @property
    def correct(self) -> bool | None:
        """True if the prediction is the label; None without a label."""
        return self.predicted == self.label if self.label else None


@dataclass(frozen=True)
class Gallery:
    """Photos of one predicted class, from the surest to the least sure, evenly spaced among all ``count``."""

    name: str
    count: int
    photos: tuple[ShownPhoto, ...]


@dataclass(frozen=True)
class PhotoOverview:
    """Contents of the overview; ``left_out`` classes have no bar, for there are too many."""

    bars: tuple[Bar, ...]
    left_out: int
    bands: tuple[Bar, ...]
    galleries: tuple[Gallery, ...]  # empty without the images
    doubtful: tuple[ShownPhoto, ...]


def is_photo_target(experiment: Experiment) -> bool:
    """Return whether the target has rows without a label, as photos of one's own have."""
    return not experiment.labelled or any(experiment.label_counts(pair) for pair in experiment.pairs)


def photo_overview(run: FinishedRun, thumbnail: Callable[[str], str] | None) -> PhotoOverview:
    """Return the overview of a run's target.

    Args:
        thumbnail: returns a path's data URL, or empty text; None if the images are not there.
    """
    rows = sorted(run.predictions, key=lambda row: -float(row["probability"]))
    show = thumbnail or (lambda path: "")
    bars, left_out = _class_bars(run)
    galleries = []
    for bar in bars if thumbnail else ():
        own = [row for row in rows if row["class"] == bar.name]
        if own:
            galleries.append(Gallery(bar.name, len(own), tuple(_shown(row, show) for row in _spread(own, GALLERY))))
    open_rows = [row for row in rows if not row.get("label")]
    doubtful = [_shown(row, show) for row in open_rows[: -DOUBTFUL - 1 : -1]]
    return PhotoOverview(bars, left_out, _probability_bars(run), tuple(galleries), tuple(doubtful))


def count_photos(run: FinishedRun, low: float, high: float = 2.0) -> int:
    """Return the number of photos of a class whose probability is at least ``low`` and below ``high``."""
    return sum(low <= float(row["probability"]) < high for row in run.predictions if row["class"] != UNKNOWN_CLASS)


def _class_bars(run: FinishedRun) -> tuple[tuple[Bar, ...], int]:
    """Return the bars, largest class first, and the number of classes without one.

    Those shown are the classes of most photos, or of the largest difference to the source.
    """
    counts, total = Counter(row["class"] for row in run.predictions), len(run.predictions)
    shares = run.result.estimate.source_shares
    source = dict(zip(run.classes, shares, strict=True)) if shares else {}
    names = list(dict.fromkeys([*run.classes, *counts]))
    by_weight = sorted(names, key=lambda name: -max(counts[name] / total, source.get(name, 0.0)))
    shown = sorted(by_weight[:MAX_CLASSES], key=lambda name: -counts[name])
    longest = max(max(counts[name] / total, source.get(name, 0.0)) for name in shown)
    bars = []
    for name in shown:
        share, mark = counts[name] / total, source.get(name)
        ends = (100 * share / longest, None if mark is None else 100 * mark / longest)
        bars.append(Bar(name, counts[name], share, mark, *ends))
    return tuple(bars), len(names) - len(shown)


def _probability_bars(run: FinishedRun) -> tuple[Bar, ...]:
    bars, high, total = [], 2.0, len(run.predictions)
    for low, name in BANDS:
        count = count_photos(run, low, high)
        bars.append(Bar(name, count, count / total, None, 100 * count / total, None))
        high = low
    if unknown := sum(row["class"] == UNKNOWN_CLASS for row in run.predictions):
        bars.append(Bar("of no class", unknown, unknown / total, None, 100 * unknown / total, None))
    return tuple(bars)


def _spread(rows: Sequence[dict[str, str]], count: int) -> list[dict[str, str]]:
    """Return at most ``count`` evenly spaced rows, the first and the last among them."""
    if len(rows) <= count:
        return list(rows)
    return [rows[round(index * (len(rows) - 1) / (count - 1))] for index in range(count)]


def _shown(row: dict[str, str], thumbnail: Callable[[str], str]) -> ShownPhoto:
    path = row["path"]
    return ShownPhoto(path, row["class"], float(row["probability"]), row.get("label") or "", thumbnail(path))


def _percent(share: float) -> str:
    """Return a share in whole percent; ``<1%`` for a small one that is not zero."""
    return "<1%" if 0 < share < 0.005 else f"{100 * share:.0f}%"
