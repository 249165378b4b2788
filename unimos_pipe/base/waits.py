"""Waits for others, which are told: for whom, and how long by now, the first time within two seconds."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

FIRST = 1.5  # seconds of a wait until it is told
LATER = (10.0, 30.0, 60.0)  # then after so many more, and again after the last of these
_listeners: list[Callable[[str], None]] = []


@contextlib.contextmanager
def waits_told_to(listener: Callable[[str], None]) -> Iterator[None]:
    """Tell of every wait in the block, in a line; without a listener waits are silent."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(text: str) -> None:
    """Tell whoever listens."""
    for listener in _listeners[-1:]:
        listener(text)


class Wait:
    """A wait that has begun: :meth:`look` tells of it when it is time to."""

    def __init__(self, describe: Callable[[], str]):
        """``describe`` says what is waited for, at the moment it is told; nothing where that is in order."""
        self.describe, self.began = describe, time.monotonic()
        self.gaps = iter((FIRST, *LATER))
        self.due = self.began + next(self.gaps)

    def look(self) -> float:
        """Tell of the wait if it is due; returns the seconds until it is due again."""
        now = time.monotonic()
        if now >= self.due:
            if what := self.describe():
                tell(f"waiting for {what}, {now - self.began:.0f} s by now; Ctrl-C ends the wait")
            self.due = now + (next(self.gaps, LATER[-1]) if what else FIRST)
        return self.due - now


@contextlib.contextmanager
def told_wait(describe: Callable[[], str]) -> Iterator[None]:
    """Tell of a block that waits, while it does."""
    wait, done = Wait(describe), threading.Event()

    def watch() -> None:
        while not done.wait(max(0.01, wait.look())):
            pass

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def stopped_processes(pids: Iterable[int]) -> str:
    """Those of some processes that are stopped, for :class:`Wait`; empty where none is."""
    stopped = [str(pid) for pid in pids if is_stopped(pid)]
    return f"process {', '.join(stopped)}, which is stopped (kill -CONT lets it go on)" if stopped else ""


def is_stopped(pid: int) -> bool:
    """Return True if a process is stopped, as by Ctrl-Z or a debugger; False if the system does not say."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state in "Tt"
