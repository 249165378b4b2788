"""Jobs in forked processes: what comes back, what is told, and how they end."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from unimos_pipe.base.errors import ExecutionError, InputError
from unimos_pipe.base.fork_pool import max_processes, parallel_map, run_beside

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere jobs are done one after the other")


def test_results_come_in_order_and_what_is_told_is_heard_by_the_caller(two_threads):
    heard = []

    def work(job, tell):
        tell((job, os.getpid()))
        return job * 10, torch.get_num_threads()

    def hear(message):
        heard.append((*message, threading.current_thread() is threading.main_thread()))

    assert parallel_map(work, [0, 1, 2], 3, hear) == [(0, 1), (10, 1), (20, 1)]
    assert sorted(job for job, *_ in heard) == [0, 1, 2]
    assert len({process for _, process, _ in heard} | {os.getpid()}) == 4
    assert all(in_main for *_, in_main in heard)


def test_a_process_takes_the_next_job_as_soon_as_it_is_free(tmp_path):
    def work(job, tell):
        if job == 3:
            (tmp_path / "last").touch()
        while job == 0 and not (tmp_path / "last").exists():
            time.sleep(0.01)
        return os.getpid()

    first, *others = parallel_map(work, [0, 1, 2, 3], 2, print)
    assert len(set(others)) == 1 and first not in others


def test_a_thread_may_have_processes_too():
    found = []
    thread = threading.Thread(target=lambda: found.extend(parallel_map(lambda job, tell: -job, [1, 2], 2, print)))
    thread.start()
    thread.join()
    assert found == [-1, -2]


def test_with_one_process_work_is_done_here():
    heard = []
    assert parallel_map(lambda job, tell: (job, tell(job), os.getpid()), [5], 1, heard.append) == [
        (5, None, os.getpid())
    ]
    assert heard == [5]


def test_what_a_job_raises_is_raised():
    def work(job, tell):
        raise InputError(f"job {job}", expected="a fine one", got="this", todo="Take another")

    with pytest.raises(InputError) as caught:
        parallel_map(work, [7], 2, print)
    assert str(caught.value) == "job 7: expected a fine one, got this. Take another"
    assert "in work\n" in caught.value.__notes__[0]  # where it was, of the process's own traceback

    def full(job, tell):
        raise OSError(28, "No space left on device", "runs/a")

    with pytest.raises(OSError) as caught:
        parallel_map(full, [7], 2, print)
    assert (caught.value.errno, caught.value.filename) == (28, "runs/a")


def test_an_error_that_cannot_travel_is_told():
    class LocalError(Exception):
        pass

    def work(job, tell):
        raise LocalError("here only")

    with pytest.raises(ExecutionError, match=r"^a process failed: LocalError\('here only'\)$"):
        parallel_map(work, [0], 2, print)


@pytest.mark.parametrize(
    ("end", "how"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed by signal 9; out of memory?"),
        (lambda: os._exit(3), "exit code 3"),
    ],
    ids=["killed", "left"],
)
def test_a_lost_process_is_told(end, how):
    with pytest.raises(
        ExecutionError, match=rf"^a process was lost \({re.escape(how)}\)\. Finished work is kept; run it again$"
    ):
        parallel_map(lambda job, tell: end(), [0, 1], 2, print)
    assert not multiprocessing.active_children()


def test_whatever_ends_the_wait_ends_the_jobs_and_they_clean_up(tmp_path):
    def work(job, tell):
        try:
            tell(job)
            time.sleep(60)
        finally:
            (tmp_path / str(job)).write_text("cleaned up")

    heard = []

    def hear(message):
        heard.append(message)
        if len(heard) == 2:
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        parallel_map(work, ["a", "b"], 2, hear)
    assert time.monotonic() - started < 30
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert not multiprocessing.active_children()


def test_a_stream_that_is_written_to_while_processes_start_stops_none(tmp_path, monkeypatch):
    """As rich's own thread does with a bar: whoever forks then leaves the child a lock that nobody will open."""
    with (tmp_path / "stderr").open("w", buffering=1) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        going = threading.Event()

        def write():
            while not going.is_set():
                stream.write("." * 200 + "\n")

        def work(job, tell):
            print("a warning", file=sys.stderr)
            return job

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(5):
                assert parallel_map(work, [1, 2], 2, print) == [1, 2]
        finally:
            going.set()
            writer.join()


def test_a_worker_of_a_pool_works_alone(two_threads):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(max_processes, [torch.device("cpu")]) == 1


def test_a_job_that_fails_beside_another_cleans_up_before_it_is_ended(tmp_path):
    """On a full disk all jobs fail at once: the first one's end must not fall into what the others tidy."""

    def work(job, tell):
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            (tmp_path / f"{job} fails").touch()
            while len(list(tmp_path.glob("* fails"))) < 2:
                time.sleep(0.01)
            time.sleep(0.3 if job == "slow" else 0)
            (tmp_path / f"{job} is tidy").touch()
            raise

    with pytest.raises(OSError, match="No space left"):
        parallel_map(work, ["slow", "fast"], 2, print)
    assert {path.name for path in tmp_path.glob("* is tidy")} == {"slow is tidy", "fast is tidy"}


def test_jobs_are_ended_whatever_the_caller_is_handling(tmp_path):
    def work(job, tell):
        try:
            tell(job)
            time.sleep(60)
        finally:
            (tmp_path / str(job)).touch()

    def hear(message):
        raise KeyboardInterrupt

    started = time.monotonic()
    try:
        raise FileNotFoundError("nothing was trained yet")
    except FileNotFoundError:
        with pytest.raises(KeyboardInterrupt):
            parallel_map(work, ["a"], 2, hear)
    assert time.monotonic() - started < 30 and (tmp_path / "a").exists()


def test_a_job_that_is_ended_at_its_start_leaves_silently(capfd):
    for _ in range(8):
        with pytest.raises(RuntimeError, match="at once"):
            parallel_map(at_once, [0, 1, 2, 3], 4, print)
    assert capfd.readouterr() == ("", "")


def at_once(job, tell):
    raise RuntimeError("at once")


ORPHANS = """
import os, time
from unimos_pipe.base.fork_pool import parallel_map
def work(job, tell):
    tell(os.getpid())
    time.sleep(60)
parallel_map(work, [0, 1], 2, lambda pid: print(pid, flush=True))
"""


def test_processes_end_with_a_killed_parent():
    parent = subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True)
    children = [int(parent.stdout.readline()) for _ in range(2)]
    assert all(alive(child) for child in children)
    parent.kill()
    parent.wait()
    until = time.monotonic() + 20
    while any(alive(child) for child in children) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(alive(child) for child in children)


def alive(process: int) -> bool:
    """Return True if a process runs; one that has ended and waits to be noticed does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_processes_are_as_many_as_threads_and_only_on_a_cpu(monkeypatch, two_threads):
    assert max_processes(torch.device("cpu")) == (1 if torch.cuda.is_available() else 2)
    assert max_processes(torch.device("cuda")) == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert max_processes(torch.device("cpu")) == 1  # a GPU's driver does not live through a fork


def test_a_job_beside_the_caller_has_a_thread_of_its_own(two_threads):
    heard, here = [], torch.get_num_threads()
    with run_beside(lambda tell: [tell("begun"), os.getpid(), torch.get_num_threads()], heard.append) as job:
        _, process, threads = job.wait()
        job.poll()
        assert job.wait()[1] == process != os.getpid()
    assert heard == ["begun"] and threads == 1 and torch.get_num_threads() == here == 2


def test_what_a_job_beside_raises_is_raised_where_it_is_waited_for(two_threads):
    def work(tell):
        raise InputError("no good")

    with pytest.raises(InputError) as refused, run_beside(work, print) as job:
        job.wait()
    assert str(refused.value) == "no good"
    with pytest.raises(ExecutionError) as lost, run_beside(lambda tell: os._exit(3), print) as job:
        job.wait()
    assert str(lost.value) == "a process was lost (exit code 3). Finished work is kept; run it again"


def test_a_block_that_fails_ends_the_job_beside(tmp_path, two_threads):
    def work(tell):
        try:
            time.sleep(60)
        finally:
            (tmp_path / "cleaned up").touch()

    with pytest.raises(KeyboardInterrupt), run_beside(lambda tell: (tell(1), work(tell)), print) as job:
        while not job.connection.poll():
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert not job.worker.is_alive() and (tmp_path / "cleaned up").exists()
