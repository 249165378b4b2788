"""What tables are made of: cells with a text and its value, rows, and a sentence on how to read them."""

from dataclasses import dataclass

from unimos_pipe.report.significance import PairedDifference
from unimos_pipe.runs.statistics import MeanStd


@dataclass(frozen=True)
class Cell:
    """One cell. ``value`` and ``spread`` are fractions; ``kind`` is "", name, text, main, oracle, paper, change,
    distance or count.
    """

    text: str
    value: float | None = None
    spread: float | None = None
    kind: str = ""
    heat: float | None = None  # 0 to 1, how strongly to shade
    significant: bool = (
        False  # of a change: whether it lies beyond the spread, by :mod:`unimos_pipe.report.significance`
    )

    @property
    def sign(self) -> str:
        """``up`` or ``down`` for a change that is sure, ``even`` for any other; else nothing."""
        if self.kind != "change" or self.value is None:
            return ""
        return "even" if not self.significant else "up" if self.value > 0 else "down"


@dataclass(frozen=True)
class Table:
    """A titled table; ``how`` says in a sentence how to read it. ``footer`` rows are set apart."""

    name: str  # of its files
    title: str
    how: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    footer: tuple[tuple[Cell, ...], ...] = ()


def name_cell(text: str) -> Cell:
    """The first cell of a row."""
    return Cell(text, kind="name")


def text_cell(text: str) -> Cell:
    """Any other cell that is no figure."""
    return Cell(text, kind="text")


def mean_cell(found: MeanStd | float | None, kind: str = "") -> Cell:
    """A figure, or a mean with its spread, of fractions in percent with one decimal; a dash where there is none."""
    if found is None:
        return Cell("–", kind=kind)
    found = found if isinstance(found, MeanStd) else MeanStd(found)
    return Cell(found.text(), found.mean, found.std, kind)


def number_cell(value: float | None) -> Cell:
    """A plain number with one decimal, such as seconds; a dash where there is none."""
    return Cell("–" if value is None else f"{value:.1f}", value, kind="distance")


def change_cell(found: PairedDifference | float | None) -> Cell:
    """A difference of fractions in points, with its sign and an asterisk where it is sure."""
    if found is None:
        return Cell("–", kind="change")
    found = found if isinstance(found, PairedDifference) else PairedDifference(found)
    shown = round(100 * found.mean, 1) + 0.0  # no negative zero
    sure = found.significant and bool(shown)
    text = f"{shown:+.1f}".replace("-", "−") if shown else "0.0"
    return Cell(f"{text}*" if sure else text, found.mean, kind="change", significant=sure)
