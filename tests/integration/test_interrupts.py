"""Waits are told within two seconds, and Ctrl-C ends every command within five, whatever its children do."""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import unimos_pipe

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


@contextlib.contextmanager
def starting(words: Callable, pid_files: list[Path]):
    """Yield ``start(what)``: it starts Python with ``words(what)``, returns it and its children's process ids."""
    started = []

    def start(what: str) -> tuple[subprocess.Popen, list[int]]:
        process = subprocess.Popen(
            [sys.executable, "-c", *words(what)], stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        started.append(process)
        return process, wait_for(pid_files, process)

    try:
        yield start
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()


@pytest.fixture
def pair(tmp_path):
    """Start the command; gives it and its two children's numbers."""
    with starting(lambda what: [PAIR, "pair", tmp_path, what], [tmp_path / "0", tmp_path / "1"]) as start:
        yield start


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


# Stage one with two decoders, each of which says its number in a file and then does what the trial asks of it.
DECODERS = """
import ctypes, os, sys, time
from pathlib import Path
import unimos_pipe.__main__ as entry
import unimos_pipe.extract.image_loader as loader

folder, what = Path(sys.argv[1]), sys.argv[2]
plain = loader.read_pixels

def read(path, *rest):
    if loader.get_worker_info() is None or (what == "second domain" and path.parents[1].name == "d"):
        return plain(path, *rest)
    (folder / f"pid{loader.get_worker_info().id}").write_text(str(os.getpid()))
    ctypes.PyDLL(None).sleep(600) if what == "hang" else time.sleep(600)

loader.read_pixels = read
sys.argv[1:] = ["extract", "--dataset", str(folder / "s.toml"), "--all", "--data-root", str(folder), "--cache",
                str(folder / "cache"), "--workers", "2", "--batch-size", "1"]
entry.main()
"""
SPEC = 'name = "s"\nclasses = ["x", "y"]\nencoder = "tiny"\n[domains]\nd = {}\ne = {}\n'


@pytest.fixture
def decoders(tmp_path):
    """Start stage one; gives it and its decoders' numbers."""
    for number in range(8):
        folder = tmp_path / "de"[number // 4] / "xy"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    (tmp_path / "s.toml").write_text(SPEC)

    with starting(lambda what: [DECODERS, tmp_path, what], [tmp_path / "pid0", tmp_path / "pid1"]) as start:
        yield start


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "number"),
    [
        ("stopped", signal.SIGINT),
        ("stopped", signal.SIGTERM),
        ("hang", signal.SIGINT),
        ("hang", signal.SIGTERM),
        ("sleep", signal.SIGINT),
        ("second domain", signal.SIGINT),
    ],
)
def test_ctrl_c_ends_stage_one_whatever_its_decoders_do(what, number, decoders):
    process, children = decoders(what)
    if what == "stopped":
        for child in children:
            os.kill(child, signal.SIGSTOP)
        began = time.monotonic()
        lines = iter(process.stderr.readline, "")
        line = next(line for line in lines if line.startswith("waiting for"))
        print(f"decoders are stopped: told after {time.monotonic() - began:.1f} s")
        assert ", which is stopped (kill -CONT lets it go on), " in line and str(children[0]) in line
    began = time.monotonic()
    process.send_signal(number)
    said = ended(process, children, 200)
    print(f"decoders, {what}, {number.name}: ended after {time.monotonic() - began:.1f} s")
    assert process.returncode == (130 if number == signal.SIGINT else 143)
    assert said.splitlines()[-1] == (LINE if number == signal.SIGINT else LINE.replace("Interrupted", "Terminated"))
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("what", ["sleep", "second domain"])
def test_a_dead_decoder_ends_stage_one(what, decoders):
    process, children = decoders(what)
    os.kill(children[0], signal.SIGKILL)
    said = ended(process, children, 200)
    assert process.returncode == 1 and "the decoder hung or crashed in" in said.splitlines()[-1]
    assert "Traceback" not in said


HOLDER = """
import sys, time
from pathlib import Path
from unimos_pipe.base.locks import exclusive_lock
with exclusive_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_wait_for_a_stopped_holder_of_a_lock(number, tmp_path):
    """``manifest update`` waits for whoever writes the spec, names it, and ends."""
    for name in "xy":
        (tmp_path / "d" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "d" / name / "1.png")
    unimos_pipe.create_dataset_spec([f"d={tmp_path / 'd'}"], tmp_path / "s.toml")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, (tmp_path / "s.toml").resolve()], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "unimos_pipe", "manifest", "update", tmp_path / "s.toml"], stderr=subprocess.PIPE,
            text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        line = process.stderr.readline()
        print(f"lock of a stopped process: told {time.monotonic() - began:.1f} s after the command's start")
        assert f"process {holder.pid}" in line and "Ctrl-C ends the wait" in line
        began = time.monotonic()
        process.send_signal(number)
        process.communicate(timeout=200)
        print(f"lock of a stopped process, {number.name}: ended after {time.monotonic() - began:.1f} s")
        assert process.returncode == (130 if number == signal.SIGINT else 143)
    finally:
        holder.kill()
        holder.wait()
