"""Waits are told within two seconds, and Ctrl-C ends every command within five, whatever its children do."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LINE = "Interrupted. Finished shards and runs are kept; the same command resumes."

# A command whose work is two processes side by side; each says so in a file and then does what the trial asks of it.
PAIR = """
import ctypes, os, signal, sys, time
from pathlib import Path
import click, torch
from unimos_pipe.base.fork_pool import parallel_map
import unimos_pipe.cli.main as cli
import unimos_pipe.__main__ as entry

def work(job, send):
    Path(sys.argv[2], str(job)).write_text(str(os.getpid()))
    if job == 0 or sys.argv[3] == "sleep":
        time.sleep(600)
    elif sys.argv[3] == "hang":
        ctypes.PyDLL(None).sleep(600)
    elif sys.argv[3] == "ignore":
        while True:
            try:
                time.sleep(600)
            except BaseException:
                pass

@cli.main.command()
@click.argument("folder")
@click.argument("what")
def pair(folder, what):
    parallel_map(work, [0, 1], 2, print)

entry.main()
"""


def wait_for(paths: list[Path], process: subprocess.Popen) -> list[int]:
    """The process numbers that files hold, once they are there."""
    until = time.monotonic() + 300
    while not all(path.exists() and path.read_text() for path in paths):
        assert process.poll() is None and time.monotonic() < until, process.stderr.read()
        time.sleep(0.02)
    return [int(path.read_text()) for path in paths]


def is_gone(pid: int) -> bool:
    """Whether a process has ended, or only waits to be asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


@pytest.fixture
def pair(tmp_path):
    """Start the command; gives it and its two children's numbers."""
    started = []

    def start(what: str) -> tuple[subprocess.Popen, list[int]]:
        process = subprocess.Popen(
            [sys.executable, "-c", PAIR, "pair", tmp_path, what], stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        started.append(process)
        return process, wait_for([tmp_path / "0", tmp_path / "1"], process)

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()


def ended(process: subprocess.Popen, children: list[int], seconds: float) -> str:
    """What a command says that is to end within some seconds; its children are gone, too."""
    said = process.communicate(timeout=seconds)[1]
    until = time.monotonic() + seconds  # a killed process closes its files a moment before it is gone
    while not all(is_gone(pid) for pid in children):
        assert time.monotonic() < until, children
        time.sleep(0.02)
    return said


TRIALS = [  # what the second child does, the signal, and how often it comes
    *itertools.product(("sleep", "stopped", "hang", "ignore"), (signal.SIGINT, signal.SIGTERM), (1,)),
    *itertools.product(("stopped", "ignore"), (signal.SIGINT,), (2,)),
]


@pytest.mark.parametrize(("what", "number", "times"), TRIALS)
def test_ctrl_c_ends_a_command_whatever_its_children_do(what, number, times, pair):
    process, children = pair("sleep" if what == "stopped" else what)
    if what == "stopped":
        os.kill(children[1], signal.SIGSTOP)
    process.send_signal(number)
    if times == 2:
        time.sleep(0.2)
        process.send_signal(number)
    said = ended(process, children, 200)
    assert process.returncode == (130 if number == signal.SIGINT else 143)
    assert said.splitlines()[-1] == (LINE if number == signal.SIGINT else LINE.replace("Interrupted", "Terminated"))
    assert "Traceback" not in said


def test_a_dead_child_ends_the_command(pair):
    process, children = pair("sleep")
    os.kill(children[1], signal.SIGKILL)
    assert "a process was lost (killed by signal 9" in ended(process, children, 200)


def test_a_wait_for_a_stopped_child_is_told(pair):
    process, children = pair("sleep")
    os.kill(children[1], signal.SIGSTOP)
    line = process.stderr.readline()
    assert line.startswith(f"waiting for process {children[1]}, which is stopped (kill -CONT lets it go on), ")
    process.send_signal(signal.SIGINT)
    ended(process, children, 200)
