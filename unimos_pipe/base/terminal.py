"""Terminal output: results on stdout, progress and notes on stderr, at three verbosity levels."""

import contextlib
import errno
import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

CONTROL_CHARS = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Unicode categories: control, format, half a character, line ends


def escape_control_chars(text: str, encoding: str = "utf-8") -> str:
    """Escape control characters, and characters that the encoding lacks, as ``\\x1b``."""
    safe = "".join(
        char.encode("unicode_escape", "surrogatepass").decode() if unicodedata.category(char) in CONTROL_CHARS else char
        for char in text
    )
    return safe.encode(encoding, "backslashreplace").decode(encoding)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Raise, so that :class:`Output` handles a closed pipe; rich would end the process."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class Output:
    """Stdout and stderr with one verbosity: -1 quiet, 0 normal, 1 verbose.

    A failed stream (closed pipe, full disk) does not stop the work. Further output to it is dropped, and :meth:`close`
    raises the error if results were lost.
    """

    def __init__(self, verbosity: int = 0):
        self.verbosity = verbosity
        self.as_document = False  # print one JSON document instead of lines and tables
        self.warned: set[str] = set()
        self.write_error: OSError | None = None  # the error of writing results to stdout
        self.out = _Console(highlight=False, soft_wrap=True)
        self.err = _Console(stderr=True, highlight=False, soft_wrap=True)

    def result(self, text: str) -> None:
        """Print a line of results, at every verbosity."""
        if not self.as_document:
            self._print(self.out, self._escape(self.out, text))

    def document(self, text: str) -> None:
        """Print the whole result as one ASCII document."""
        self._print(self.out, Text(text))

    def note(self, text: str) -> None:
        """Print a line about what was done, unless quiet."""
        if self.verbosity >= 0:
            self._print(self.err, self._escape(self.err, text))

    def suggest_command(self, command: str) -> None:
        """Print the suggested next command, unless results were lost."""
        if not self.write_error:
            self.note(f"next: {command}")

    def detail(self, text: str) -> None:
        """Print a line if verbose."""
        if self.verbosity >= 1:
            self._print(self.err, self._escape(self.err, text))

    def warn(self, text: str) -> None:
        """Print a warning, at every verbosity; the same one only once."""
        if text in self.warned:
            return
        self.warned.add(text)
        self._print(self.err, f"[yellow]Warning:[/] {self._escape(self.err, text)}")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], footer: Sequence[str] = ()):
        """Print a table: the first column left-aligned, others right; ``footer`` is a separate last row."""
        if self.as_document:
            return
        table = Table(title=self._escape(self.out, title), title_justify="left")
        for index, name in enumerate(columns):
            table.add_column(self._escape(self.out, name), justify="left" if index == 0 else "right", no_wrap=True)
        for row in rows:
            table.add_row(*(self._escape(self.out, cell) for cell in row))
        if footer:
            table.add_section()
            table.add_row(*(self._escape(self.out, cell) for cell in footer))
        self._print(self.out, table, soft_wrap=False)

    def _escape(self, console: Console, text: str) -> str:
        return escape(escape_control_chars(text, console.encoding))

    def _print(self, console: Console, content: object, **options) -> None:
        try:
            if not (console is self.out and self.write_error):
                console.print(content, **options)
                console.file.flush()
        except OSError as error:
            if console is self.out:
                self.write_error = error

    def close(self) -> None:
        """Raise the OSError of results that could not be written."""
        if self.write_error:
            raise self.write_error

    @contextlib.contextmanager
    def progress(self, label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """Show a progress bar with a rate; yields ``advance(n)``. Hidden if quiet or not on a terminal."""
        quiet = self.verbosity < 0 or not self.err.is_terminal
        columns = _progress_columns(self.err.width, label, total, unit)
        with Progress(*columns, console=self.err, disable=quiet, transient=True) as bar:
            task = bar.add_task(self._escape(self.err, label), total=total, rate="")

            def advance(count: int) -> None:
                speed = bar.tasks[0].speed
                bar.update(task, advance=count, rate=f"{speed:,.0f} {unit}/s" if speed else "")

            yield advance


def _progress_columns(width: int, label: str, total: int, unit: str) -> list[ProgressColumn]:
    """Return the columns that fit the width. A narrow terminal drops the bar first, then the rate."""
    counts = 2 * len(str(total)) + 1
    widths = {"label": min(len(label), max(8, width - counts - 1)), "counts": counts}
    for name, size in (("remaining", 7), ("elapsed", 7), ("rate", len(unit) + 10), ("bar", 10)):
        if sum(widths.values()) + len(widths) + size <= width:
            widths[name] = size
    bar = min(40, width - sum(widths.values()) - len(widths) + 11)
    columns = {
        "label": TextColumn("{task.description}", table_column=Column(no_wrap=True, max_width=widths["label"])),
        "bar": BarColumn(bar),
        "counts": MofNCompleteColumn(),
        "rate": TextColumn("{task.fields[rate]}", table_column=Column(no_wrap=True, max_width=widths.get("rate"))),
        "elapsed": TimeElapsedColumn(),
        "remaining": TimeRemainingColumn(),
    }
    return [column for name, column in columns.items() if name in widths]


def format_percent(value: float | None) -> str:
    """Return a fraction in percent (``72.3``), or a dash for None."""
    return "-" if value is None else f"{100 * value:.1f}"
