"""Tables of the report: cells with text and value, rows, and a caption."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from unimos_pipe.report.significance import LEVEL, PairedDifference, holm
from unimos_pipe.runs.statistics import MeanStd

LOSS = -0.01 - 1e-9  # a gain below it counts as a loss; one of -1 point does not, however it is rounded


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    ``value`` and ``spread`` (standard deviation) are fractions, of kinds number and count plain numbers. ``kind`` is
    "", name, text, main, oracle, paper, change, gain, number or count.
    """

    text: str
    value: float | None = None
    spread: float | None = None
    kind: str = ""
    heat: float | None = None  # strength of the shading, 0 to 1
    difference: PairedDifference | None = None  # of a change between two settings: its interval and tests
    p: float | None = None  # of the t-test, by Holm's correction where :func:`correct_tests` saw the whole table

    @property
    def significant(self) -> bool:
        """True if the test rejects a difference of zero and the rounded difference is not zero."""
        return self.p is not None and self.p < LEVEL and bool(_points(self.value))

    @property
    def sign(self) -> str:
        """``up`` or ``down`` for a significant change, ``even`` for any other; ``down`` for a loss; else empty."""
        if self.kind == "gain":
            return "down" if self.value is not None and self.value < LOSS else ""
        if self.kind != "change" or self.value is None:
            return ""
        return "even" if not self.significant else "up" if self.value > 0 else "down"

    @property
    def note(self) -> str:
        """Description of the tests for the page; empty without a test."""
        if self.p is None:
            return ""
        pairs = len(self.difference.by_pair)
        return (
            f"{pairs} pairs: t-test p = {self.difference.p:.2g}, by Holm {self.p:.2g}; "
            f"Wilcoxon p = {self.difference.p_wilcoxon:.2g}"
        )


@dataclass(frozen=True)
class Table:
    """A table with title and caption; ``footer`` holds the rows below a rule."""

    name: str  # file name without suffix
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    footer: tuple[tuple[Cell, ...], ...] = ()


def name_cell(text: str) -> Cell:
    """Return the first cell of a row."""
    return Cell(text, kind="name")


def text_cell(text: str) -> Cell:
    """Return a cell of plain text."""
    return Cell(text, kind="text")


def mean_cell(mean: MeanStd | float | None, kind: str = "") -> Cell:
    """Return a cell of a fraction in percent with one decimal, with its standard deviation if there is one.

    None is shown as a dash.
    """
    if mean is None:
        return Cell("–", kind=kind)
    mean = mean if isinstance(mean, MeanStd) else MeanStd(mean)
    return Cell(mean.text(), mean.mean, mean.std, kind)


def number_cell(value: float | None) -> Cell:
    """Return a cell of a plain number with one decimal, such as seconds; None is shown as a dash."""
    return Cell("–" if value is None else f"{value:.1f}", value, kind="number")


def change_cell(change: PairedDifference | float | None) -> Cell:
    """Return a cell of a difference in points, such as ``+1.2* [0.3, 2.1]``; the asterisk marks significance.

    The brackets hold the 95% interval if there are enough values for one.
    """
    if not isinstance(change, PairedDifference):
        return Cell("–" if change is None else _signed(change), change, kind="change")
    return _with_text(Cell("", change.mean, kind="change", difference=change, p=change.p))


def gain_cell(gain: float | None) -> Cell:
    """Return a cell of a difference in points without a test; below -1 it is shown as a loss."""
    return Cell("–" if gain is None else _signed(gain), gain, kind="gain")


def correct_tests(table: Table) -> Table:
    """Return the table with p values corrected for its number of comparisons (Holm), which the caption explains."""
    cells = [cell for row in (*table.rows, *table.footer) for cell in row if cell.difference is not None]
    if not any(cell.difference.interval for cell in cells):
        return table
    tested = [cell.difference.p for cell in cells if cell.difference.p is not None]
    adjusted = iter(holm(tested))

    def correct(row: Iterable[Cell]) -> tuple[Cell, ...]:
        return tuple(_with_text(replace(cell, p=next(adjusted))) if cell.p is not None else cell for cell in row)

    rows, footer = (tuple(map(correct, part)) for part in (table.rows, table.footer))
    return replace(table, rows=rows, footer=footer, caption=f"{table.caption} {_explain(cells, len(tested))}")


def _explain(cells: Iterable[Cell], tests: int) -> str:
    """Return sentences on the intervals and asterisks of a table."""
    single_pair = any(len(cell.difference.by_pair) == 1 and cell.difference.interval for cell in cells)
    over = "the seeds of a pair" if not tests else "pairs, of a single pair over its seeds" if single_pair else "pairs"
    interval = f"In brackets: the 95% t-interval over {over}."
    if not tests:
        return f"{interval} One pair is not tested."
    corrected = f", Holm-corrected for the {tests} comparisons of this table" if tests > 1 else ""
    return f"{interval} An asterisk: p < 0.05 in a two-sided t-test over pairs, each the mean of its seeds{corrected}."


def _with_text(cell: Cell) -> Cell:
    """Return the cell of a paired difference with its text."""
    interval = cell.difference.interval
    brackets = f" [{', '.join(_unsigned(end) for end in interval)}]" if interval else ""
    return replace(cell, text=f"{_signed(cell.value)}{'*' if cell.significant else ''}{brackets}")


def _points(value: float) -> float:
    return round(100 * value, 1) + 0.0  # no negative zero


def _signed(value: float) -> str:
    points = _points(value)
    return f"{points:+.1f}".replace("-", "−") if points else "0.0"


def _unsigned(value: float) -> str:
    return f"{_points(value):.1f}".replace("-", "−")
