"""How a long job tells how it goes: the library prints nothing, whoever calls it may reporter."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


class ProgressReporter(Protocol):
    """Receives progress and messages.

    :class:`unimos_pipe.base.terminal.Output` shows all of it on a terminal, :data:`NO_PROGRESS` nothing.
    """

    def progress(self, label: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]:
        """Something that takes long begins; gives ``advance(count)``, to be called as parts of ``total`` are done."""

    def note(self, text: str) -> None:
        """A line about what was done."""

    def warn(self, text: str) -> None:
        """Something may not be as the user thinks."""

    def detail(self, text: str) -> None:
        """A line for those who want to know where things come from and go."""


class _NoProgress:
    """Tells nobody."""

    def progress(self, label: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]:
        """Count nothing."""
        return contextlib.nullcontext(lambda count: None)

    def note(self, text: str) -> None:
        """Say nothing."""

    warn = detail = note


NO_PROGRESS = _NoProgress()
