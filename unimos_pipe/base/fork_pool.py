"""Jobs side by side in processes forked from this one, with a thread each.

A CPU's threads wait for each other at every small operator, of which training is full; processes with a job each do
not. A forked process has what its parent had in memory, so nothing is loaded twice.
"""

import contextlib
import ctypes
import functools
import multiprocessing
import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

import torch
from threadpoolctl import threadpool_limits

from unimos_pipe.base.errors import ExecutionError
from unimos_pipe.base.malloc import trim_malloc
from unimos_pipe.base.waits import Wait, stopped_processes

Job, Result = TypeVar("Job"), TypeVar("Result")
Send = Callable[[Any], None]

MESSAGE, RESULT, ERROR = range(3)  # what a process's messages are about
LEAVE_WITHIN = 3.0  # seconds in which a process that was told to end cleans up
_END_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl.h
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _WorkerStopped(KeyboardInterrupt):
    """The parent wants no more of this process, which leaves as orderly as after Ctrl-C."""


def max_processes(device: torch.device) -> int:
    """How many processes work side by side on a device: as many as torch uses threads of a CPU, otherwise 1.

    Only Linux can end a process with its parent, the driver of a GPU does not live through a fork, and a worker of
    somebody's pool may have no processes of its own.
    """
    may_fork = (
        sys.platform == "linux" and not torch.cuda.is_available() and not multiprocessing.current_process().daemon
    )
    return torch.get_num_threads() if device.type == "cpu" and may_fork else 1


def parallel_map(
    work: Callable[[Job, Send], Result], jobs: Sequence[Job], processes: int, on_message: Send
) -> list[Result]:
    """``work(job, tell)`` of every job, in order. What it tells is given to ``hear``, in the caller's thread.

    Whatever ends the caller's wait ends the jobs as well: each is interrupted, and waited for.

    Args:
        work: returns and tells plain values. What it changes in memory is lost with its process.
        processes: how many jobs at once. With 1, all are done in this process, with all its threads.
    Raises:
        ExecutionError: a process was lost. What a job raises is raised as it is.
    """
    if processes < 2:
        return [work(job, on_message) for job in jobs]
    trim_malloc()
    results: dict[int, Result] = {}
    pending, workers, running = iter(range(len(jobs))), [], {}
    try:
        for _ in range(min(processes, len(jobs))):
            worker, connection = _start_worker(work, jobs)
            workers.append(worker)
            running[connection] = worker
            connection.send(next(pending))
        while running:
            for connection in _ready(running):
                kind, value = _receive(connection, running[connection])
                if kind == MESSAGE:
                    on_message(value)
                elif kind == ERROR:
                    raise value
                else:
                    results[value[0]] = value[1]
                    next_index = next(pending, None)
                    connection.send(next_index)
                    if next_index is None:
                        del running[connection]
    finally:
        for worker in running.values():
            worker.terminate()
        _join(workers)
    return [results[index] for index in range(len(jobs))]


def _ready(busy: Mapping[Connection, multiprocessing.Process]) -> list[Connection]:
    """The lines on which something has come. A wait for processes that are stopped is told."""
    pause = Wait(lambda: stopped_processes(worker.pid for worker in busy.values()))
    while not (ready := wait(list(busy), max(0.01, pause.look()))):
        pass
    return ready


def _join(workers: Sequence[multiprocessing.Process]) -> None:
    """Wait for processes that were told to end, then end those that do not: stopped or hung ones."""
    until = time.monotonic() + LEAVE_WITHIN
    for worker in workers:
        worker.join(max(0.0, until - time.monotonic()))
    for worker in workers:
        if worker.is_alive():
            worker.kill()
            worker.join()


def reopen_std_streams() -> None:
    """Give a forked process streams of its own: if a thread of the parent's was writing, its locks stay held here."""
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115


def _start_worker(work: Callable, jobs: Sequence) -> tuple[multiprocessing.Process, Connection]:
    """A process that waits for numbers of jobs, and the parent's end of the line to it."""
    fork = multiprocessing.get_context("fork")
    parent_end, child_end = fork.Pipe()
    worker = fork.Process(target=_run_worker, args=(work, jobs, child_end, os.getpid()), daemon=True)
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # until the child has handlers of its own
    try:
        worker.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)
    child_end.close()
    return worker, parent_end


def _receive(connection: Connection, worker: multiprocessing.Process) -> tuple[int, Any]:
    try:
        return connection.recv()
    except (EOFError, ConnectionResetError):
        worker.join()
        code = worker.exitcode
        cause = f"killed by signal {-code}; out of memory?" if code < 0 else f"exit code {code}"
        raise ExecutionError(f"a process was lost ({cause}). Finished work is kept; run it again") from None


def _run_worker(work: Callable[[Job, Send], Any], jobs: Sequence[Job], connection: Connection, parent: int) -> None:
    """Do the jobs whose numbers come, until None does: the whole life of a forked process."""
    ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent as well, which ends this process
    stop = functools.partial(_handle_stop, sys.exception())
    for signal_number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(signal_number, stop)
    reopen_std_streams()
    torch.set_num_threads(1)  # the parent's threads were not forked along: whoever waits for them waits for ever
    threadpool_limits(1)
    with contextlib.suppress(_WorkerStopped):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        while (index := connection.recv()) is not None:
            connection.send(_run_job(work, jobs, index, connection))
    os._exit(0)


def _run_job(
    work: Callable[[Job, Send], Any], jobs: Sequence[Job], index: int, connection: Connection
) -> tuple[int, Any]:
    try:
        return RESULT, (index, work(jobs[index], lambda message: connection.send((MESSAGE, message))))
    except Exception as error:
        error.add_note(traceback.format_exc())  # tracebacks stay in their process
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return ERROR, ExecutionError(f"a process failed: {' '.join(repr(error).split())[:300]}")
        return ERROR, error


def _handle_stop(at_fork: BaseException | None, *_: object) -> None:
    """Leave; but while a job that failed is cleaning up, in a moment. ``at_fork`` is what the parent was handling."""
    if sys.exception() is not at_fork:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        return
    for signal_number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(signal_number, signal.SIG_IGN)
    raise _WorkerStopped
