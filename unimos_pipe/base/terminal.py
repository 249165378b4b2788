"""What a user sees on the terminal: results on stdout, progress and notes on stderr, silence where it was asked for."""

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
    """Text for a terminal: what would steer it, or what its encoding lacks, as escapes such as ``\\x1b``."""
    safe = "".join(
        char.encode("unicode_escape", "surrogatepass").decode() if unicodedata.category(char) in CONTROL_CHARS else char
        for char in text
    )
    return safe.encode(encoding, "backslashreplace").decode(encoding)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave a closed pipe to :class:`Output`; rich would end the process."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class Output:
    """The two streams with one verbosity: -1 quiet, 0 normal, 1 verbose.

    A stream that fails (a closed pipe, a full disk) stops no work: the rest of what it was to show is dropped, and
    :meth:`close` tells of an answer that was lost.
    """

    def __init__(self, verbosity: int = 0):
        self.verbosity = verbosity
        self.as_document = False  # the answer is one document for programs; its lines and tables are not printed
        self.write_error: OSError | None = None  # why the answer could not be written
        self.out = _Console(highlight=False, soft_wrap=True)
        self.err = _Console(stderr=True, highlight=False, soft_wrap=True)

    def result(self, text: str) -> None:
        """A line of the command's answer; printed even with -q."""
        if not self.as_document:
            self._print(self.out, self._escape(self.out, text))

    def document(self, text: str) -> None:
        """The command's whole answer, as it is, in ASCII."""
        self._print(self.out, Text(text))

    def note(self, text: str) -> None:
        """A line about what was done."""
        if self.verbosity >= 0:
            self._print(self.err, self._escape(self.err, text))

    def suggest_command(self, command: str) -> None:
        """The command to type next, unless the answer was lost."""
        if not self.write_error:
            self.note(f"next: {command}")

    def detail(self, text: str) -> None:
        """A line only -v shows."""
        if self.verbosity >= 1:
            self._print(self.err, self._escape(self.err, text))

    def warn(self, text: str) -> None:
        """A line that even -q shows: something may not be as the user thinks."""
        self._print(self.err, f"[yellow]Warning:[/] {self._escape(self.err, text)}")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], footer: Sequence[str] = ()):
        """A table with text left and figures right; ``footer`` is set apart as the last row."""
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
        """Raise the OSError of an answer that could not be written."""
        if self.write_error:
            raise self.write_error

    @contextlib.contextmanager
    def progress(self, label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """A bar with a rate; yields ``advance(n)``. Nothing is shown with -q or off a terminal."""
        quiet = self.verbosity < 0 or not self.err.is_terminal
        columns = _progress_columns(self.err.width, label, total, unit)
        with Progress(*columns, console=self.err, disable=quiet, transient=True) as bar:
            task = bar.add_task(self._escape(self.err, label), total=total, rate="")

            def advance(count: int) -> None:
                speed = bar.tasks[0].speed
                bar.update(task, advance=count, rate=f"{speed:,.0f} {unit}/s" if speed else "")

            yield advance


def _progress_columns(width: int, label: str, total: int, unit: str) -> list[ProgressColumn]:
    """What of a bar fits beside label and counts; a narrow terminal drops columns, first the bar, then the rate."""
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
    """An accuracy for a table: ``72.3``, or a dash where there is none."""
    return "-" if value is None else f"{100 * value:.1f}"
