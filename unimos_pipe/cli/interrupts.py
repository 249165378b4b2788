"""Ctrl-C ends the process, whatever its main thread or its children are caught in."""

import contextlib
import os
import signal
import threading

PATIENCE = 4.0  # seconds for an orderly end
CODES = {signal.SIGINT: ("Interrupted", 130), signal.SIGTERM: ("Terminated", 143)}


def end_when_told(patience: float = PATIENCE) -> None:
    """End this process so many seconds after a first Ctrl-C or SIGTERM, and at once at a second Ctrl-C.

    Python raises KeyboardInterrupt in the main thread for an orderly end. Where that does not come, because a child
    that is waited for is stopped or hung or the main thread is in C code, a thread ends the children and the process.
    Nothing is lost by it: whatever is written is whole or absent at every moment.
    """
    if threading.current_thread() is not threading.main_thread() or os.name != "posix":
        return
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # a child's signals are its own
    threading.Thread(target=_watch, args=(heard, patience, os.getpid()), daemon=True).start()


def _watch(heard: int, patience: float, owner: int) -> None:
    first = None
    while number := os.read(heard, 1):
        if number[0] not in CODES or os.getpid() != owner:
            continue
        if first is None:
            first = threading.Timer(patience, _leave, (number[0],))
            first.daemon = True
            first.start()
        elif number[0] == signal.SIGINT:
            _leave(number[0])


def _leave(number: int) -> None:
    """Say how it ended, and end."""
    word, code = CODES[number]
    line = f"{word}. Finished shards and runs are kept; the same command resumes.\n"
    with contextlib.suppress(OSError):
        os.write(2, line.encode())
    exit_at_once(code)


def exit_at_once(code: int) -> None:
    """Kill the children and exit without Python's own end, which waits for them and takes its handlers off."""
    with contextlib.suppress(Exception):
        import multiprocessing  # not at the top: it slows --help

        for child in multiprocessing.active_children():
            child.kill()
    os._exit(code)
