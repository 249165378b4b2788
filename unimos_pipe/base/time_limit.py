"""An end to what takes too long, on any thread: an exception between two steps of Python code."""

import contextlib
import ctypes
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def time_limit(seconds: float, message: str) -> Iterator[None]:
    """Raise TimeoutError in a block that takes longer.

    The main thread is interrupted by a signal, which also ends a wait in C code that signals can interrupt; another
    thread is told when it next runs Python code. Neither ends a single call of C code that holds on.
    """
    main = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    with _by_signal(seconds, message) if main else _by_timer(seconds, message):
        yield


@contextlib.contextmanager
def _by_signal(seconds: float, message: str) -> Iterator[None]:
    def stop(*_):
        raise TimeoutError(message)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _OutOfTime(BaseException):
    """Raised in a thread whose time is up; no decoder catches it."""


@contextlib.contextmanager
def _by_timer(seconds: float, message: str) -> Iterator[None]:
    thread, lock, state = threading.get_ident(), threading.Lock(), {"done": False, "told": False}

    def stop() -> None:
        with lock:
            if not state["done"]:
                state["told"] = True
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_OutOfTime))

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    try:
        try:
            timer.start()
            yield
        finally:
            with lock:
                state["done"] = True
                if state["told"]:  # what has not been raised yet is taken back
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)
            timer.cancel()
    except _OutOfTime:
        raise TimeoutError(message) from None
