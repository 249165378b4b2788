"""What a user sees on the terminal: results on stdout, progress and notes on stderr, silence where it was asked for."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table


class Output:
    """The two streams with one verbosity: -1 quiet, 0 normal, 1 verbose."""

    def __init__(self, verbosity: int = 0):
        self.verbosity = verbosity
        self.out = Console(highlight=False, soft_wrap=True)
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)

    def result(self, text: str) -> None:
        """A line of the command's answer; printed even with -q."""
        self.out.print(escape(text))

    def note(self, text: str) -> None:
        """A line about what was done."""
        if self.verbosity >= 0:
            self.err.print(escape(text))

    def detail(self, text: str) -> None:
        """A line only -v shows."""
        if self.verbosity >= 1:
            self.err.print(escape(text))

    def warn(self, text: str) -> None:
        """A line that even -q shows: something may not be as the user thinks."""
        self.err.print(f"[yellow]Warning:[/] {escape(text)}")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], footer: Sequence[str] = ()):
        """A table with text left and figures right; ``footer`` is set apart as the last row."""
        table = Table(title=escape(title), title_justify="left")
        for index, name in enumerate(columns):
            table.add_column(escape(name), justify="left" if index == 0 else "right", no_wrap=True)
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        if footer:
            table.add_section()
            table.add_row(*(escape(cell) for cell in footer))
        self.out.print(table, soft_wrap=False)

    @contextlib.contextmanager
    def progress(self, label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """A bar with a rate; yields ``advance(n)``. Nothing is shown with -q or off a terminal."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        quiet = self.verbosity < 0 or not self.err.is_terminal
        with Progress(*columns, console=self.err, disable=quiet, transient=True) as bar:
            task = bar.add_task(escape(label), total=total, rate="")

            def advance(count: int) -> None:
                speed = bar.tasks[0].speed
                bar.update(task, advance=count, rate=f"{speed:,.0f} {unit}/s" if speed else "")

            yield advance


def percent(value: float | None) -> str:
    """An accuracy for a table: ``72.3``, or a dash where there is none."""
    return "-" if value is None else f"{100 * value:.1f}"
