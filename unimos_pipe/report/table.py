"""What tables are made of: cells with a text and its value, rows, and a sentence on how to read them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from unimos_pipe.report.significance import LEVEL, PairedDifference, holm
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
    difference: PairedDifference | None = None  # of a change between two settings: its interval and tests
    p: float | None = None  # of the t-test, by Holm's correction where :func:`correct_tests` saw the whole table

    @property
    def significant(self) -> bool:
        """Whether the test rejects that there is no difference, and the text shows one."""
        return self.p is not None and self.p < LEVEL and bool(_points(self.value))

    @property
    def sign(self) -> str:
        """``up`` or ``down`` for a change that is significant, ``even`` for any other; else nothing."""
        if self.kind != "change" or self.value is None:
            return ""
        return "even" if not self.significant else "up" if self.value > 0 else "down"

    @property
    def note(self) -> str:
        """The tests in words, for a page; empty where there was none."""
        if self.p is None:
            return ""
        pairs = len(self.difference.by_pair)
        return (
            f"{pairs} pairs: t-test p = {self.difference.p:.2g}, by Holm {self.p:.2g}; "
            f"Wilcoxon p = {self.difference.p_wilcoxon:.2g}"
        )


@dataclass(frozen=True)
class Table:
    """A titled table; ``how`` says in a sentence how to read it. ``footer`` rows are set apart."""

    name: str  # of its files
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    footer: tuple[tuple[Cell, ...], ...] = ()


def name_cell(text: str) -> Cell:
    """The first cell of a row."""
    return Cell(text, kind="name")


def text_cell(text: str) -> Cell:
    """Any other cell that is no figure."""
    return Cell(text, kind="text")


def mean_cell(mean: MeanStd | float | None, kind: str = "") -> Cell:
    """A figure, or a mean with its standard deviation, of fractions in percent with one decimal; else a dash."""
    if mean is None:
        return Cell("–", kind=kind)
    mean = mean if isinstance(mean, MeanStd) else MeanStd(mean)
    return Cell(mean.text(), mean.mean, mean.std, kind)


def number_cell(value: float | None) -> Cell:
    """A plain number with one decimal, such as seconds; a dash where there is none."""
    return Cell("–" if value is None else f"{value:.1f}", value, kind="distance")


def change_cell(change: PairedDifference | float | None) -> Cell:
    """A difference of fractions in points with its sign, ``+1.2* [0.3, 2.1]``: an asterisk where it is significant.

    The brackets hold the 95% interval, where there are values enough for one.
    """
    if not isinstance(change, PairedDifference):
        return Cell("–" if change is None else _signed(change), change, kind="change")
    return _with_text(Cell("", change.mean, kind="change", difference=change, p=change.p))


def correct_tests(table: Table) -> Table:
    """The table with every test corrected for the number of its comparisons (Holm), and a sentence that says so."""
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
    """How intervals and asterisks of a table come about."""
    alone = any(len(cell.difference.by_pair) == 1 and cell.difference.interval for cell in cells)
    over = "pairs, of a single pair over its seeds" if tests and alone else "pairs" if tests else "the seeds of a pair"
    interval = f"In brackets: the 95% t-interval over {over}."
    if not tests:
        return f"{interval} One pair is not tested."
    corrected = f", Holm-corrected for the {tests} comparisons of this table" if tests > 1 else ""
    return f"{interval} An asterisk: p < 0.05 in a two-sided t-test over pairs, each the mean of its seeds{corrected}."


def _with_text(cell: Cell) -> Cell:
    """The cell of a paired difference with the text that its tests give it."""
    interval = cell.difference.interval
    brackets = f" [{', '.join(_bare(end) for end in interval)}]" if interval else ""
    return replace(cell, text=f"{_signed(cell.value)}{'*' if cell.significant else ''}{brackets}")


def _points(value: float) -> float:
    return round(100 * value, 1) + 0.0  # no negative zero


def _signed(value: float) -> str:
    points = _points(value)
    return f"{points:+.1f}".replace("-", "−") if points else "0.0"


def _bare(value: float) -> str:
    return f"{_points(value):.1f}".replace("-", "−")
