"""Parallel jobs in forked processes with one thread each.

Training consists of many small operators, and threads of one process synchronise at each of them. Processes with one
job each do not. A forked process shares its parent's memory, so nothing is loaded twice.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from threadpoolctl import threadpool_limits

from unimos_pipe.base.errors import ExecutionError
from unimos_pipe.base.malloc import trim_malloc
from unimos_pipe.base.waits import Wait, stopped_processes

if TYPE_CHECKING:  # takes a second to import, and the report needs none
    import torch

Job, Result = TypeVar("Job"), TypeVar("Result")
Send = Callable[[Any], None]

MESSAGE, RESULT, ERROR = range(3)  # what a process's messages are about
LEAVE_WITHIN = 3.0  # seconds in which a process that was told to end cleans up
_END_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl.h
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _WorkerStopped(KeyboardInterrupt):
    """Raised in a worker when the parent stops it; cleans up as after Ctrl-C."""


def can_fork() -> bool:
    """Return whether a job may run in a forked process: on Linux, and not in a daemonic process."""
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


def count_usable_cores() -> int:
    """Return the number of CPU cores that this process may use; all cores if the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def max_processes(device: "torch.device") -> int:
    """Return the number of worker processes for a device: torch's thread count on a CPU, otherwise 1.

    The number is also 1 outside Linux (no parent-death signal), where CUDA is available (its driver does not survive a
    fork), and in a daemonic process (it may not have children).
    """
    import torch

    may_fork = device.type == "cpu" and can_fork() and not torch.cuda.is_available()
    return torch.get_num_threads() if may_fork else 1


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Give torch one thread in a block."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def parallel_map(
    work: Callable[[Job, Send], Result], jobs: Sequence[Job], processes: int, on_message: Send
) -> list[Result]:
    """Return ``work(job, send)`` of every job, in order.

    What a job sends is passed to ``on_message`` in the caller's thread. An exception in the caller, such as Ctrl-C,
    interrupts all jobs and waits for them.

    Args:
        work: returns and sends values that can be pickled. Its changes to memory are lost with its process.
        processes: number of concurrent jobs. With 1, all jobs run in this process, with all its threads.
    Raises:
        ExecutionError: a process was lost. An exception of a job is raised unchanged.
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


@dataclass
class SideJob(Generic[Result]):
    """A job in a process beside this one, from :func:`run_beside`."""

    worker: multiprocessing.Process
    connection: Connection
    on_message: Send
    results: list[Result] = field(default_factory=list)

    def poll(self) -> None:
        """Pass on what the job has sent. Raises as :meth:`wait` does."""
        while not self.results and self.connection.poll():
            self._take()

    def wait(self) -> Result:
        """Return the job's result. Raises ExecutionError if its process was lost, and what the job raises."""
        while not self.results:
            _ready({self.connection: self.worker})
            self._take()
        return self.results[0]

    def _take(self) -> None:
        kind, value = _receive(self.connection, self.worker)
        if kind == MESSAGE:
            self.on_message(value)
        elif kind == ERROR:
            raise value
        else:
            self.results.append(value[1])
            self.connection.send(None)


@contextlib.contextmanager
def run_beside(work: Callable[[Send], Result], on_message: Send) -> Iterator[SideJob[Result]]:
    """Run ``work(send)`` in a forked process of one thread beside this one.

    An exception in the block, such as Ctrl-C, interrupts the job and waits for it.

    Args:
        work, on_message: as for :func:`parallel_map`.
    """
    trim_malloc()
    worker, connection = _start_worker(lambda _, send: work(send), (None,))
    connection.send(0)
    job = SideJob(worker, connection, on_message)
    try:
        yield job
    finally:
        if not job.results:
            worker.terminate()
        _join([worker])


def _ready(busy: Mapping[Connection, multiprocessing.Process]) -> list[Connection]:
    """Return the connections with a message. A wait for stopped processes is reported."""
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
    """Open new standard streams in a forked process.

    If a thread of the parent was writing at the fork, the locks of the old streams stay held here.
    """
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115


def _start_worker(work: Callable, jobs: Sequence) -> tuple[multiprocessing.Process, Connection]:
    """Start a worker process; return it and the parent's end of its pipe."""
    fork = multiprocessing.get_context("fork")
    parent_end, child_end = fork.Pipe()
    worker = fork.Process(target=_run_worker, args=(work, jobs, child_end, os.getpid()), daemon=True)
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # until the child has installed its handlers
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
    """Run jobs by the indices received until None arrives. This is the main function of a worker."""
    ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C also reaches the parent, which stops this process
    stop = functools.partial(_handle_stop, sys.exception())
    for signal_number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(signal_number, stop)
    reopen_std_streams()
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # the parent's threads do not exist here; waiting for them would block for ever
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
    """Raise :class:`_WorkerStopped`; retry after 0.05 s while a failed job is cleaning up.

    ``at_fork`` is the exception that the parent was handling at the fork.
    """
    if sys.exception() is not at_fork:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        return
    for signal_number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(signal_number, signal.SIG_IGN)
    raise _WorkerStopped
