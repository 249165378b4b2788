"""Progress-reporting protocol. The library prints nothing; callers may pass a reporter."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


class ProgressReporter(Protocol):
    """Receives progress and messages.

    :class:`unimos_pipe.base.terminal.Output` shows all of it on a terminal, :data:`NO_PROGRESS` nothing.
    """

    def progress(self, label: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]:
        """Begin a long task; yields ``advance(count)``, called as parts of ``total`` finish."""

    def note(self, text: str) -> None:
        """Report what was done, in a line."""

    def warn(self, text: str) -> None:
        """Report a possible problem, in a line."""

    def detail(self, text: str) -> None:
        """Report a file location or another detail, in a line."""


class _NoProgress:
    """A reporter that ignores everything."""

    def progress(self, label: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]:
        """Count nothing."""
        return contextlib.nullcontext(lambda count: None)

    def note(self, text: str) -> None:
        """Ignore the text."""

    warn = detail = note


NO_PROGRESS = _NoProgress()
