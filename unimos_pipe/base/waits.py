"""Reports of waits for other processes: what is waited for, and how long. The first comes within two seconds."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

FIRST = 1.5  # seconds of a wait until the first report
LATER = (10.0, 30.0, 60.0)  # seconds between reports; the last one repeats
_listeners: list[Callable[[str], None]] = []


@contextlib.contextmanager
def waits_told_to(listener: Callable[[str], None]) -> Iterator[None]:
    """Pass a line about every wait in the block to ``listener``; without one, waits are silent."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(text: str) -> None:
    """Pass a line to the innermost listener."""
    for listener in _listeners[-1:]:
        listener(text)


class Wait:
    """A wait in progress; :meth:`look` reports it when a report is due."""

    def __init__(self, describe: Callable[[], str]):
        """``describe`` returns what is waited for now, or an empty string if the wait needs no report."""
        self.describe, self.began = describe, time.monotonic()
        self.gaps = iter((FIRST, *LATER))
        self.due = self.began + next(self.gaps)

    def look(self) -> float:
        """Report the wait if a report is due. Return the seconds until the next one."""
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
