"""Commands that are killed, run into a full disk, or meet another: the old or the new stands, never neither.

Each trial is a process of its own (:func:`fork_server.zygote`) in a folder that holds a cache, a run, an export, a
sweep, a report and things of the user's. A short round runs in CI, the long one with --slow.
"""

import contextlib
import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from file_tree import damage, tree
from fork_server import Zygote, zygote
from workspace import FORCED, WRITERS, Wholeness, check, copy_workspace, leftovers

TOGETHER = [  # pairs of commands that meet over one thing
    *((name, name) for name in WRITERS),
    ("extract", "adapt"), ("extract", "prune"), ("extract", "predict"), ("extract", "report"), ("extract", "run"),
    ("adapt", "report"), ("adapt", "prune"), ("export", "predict"), ("sweep", "run"), ("sweep", "prune"),
    ("sweep", "extract"), ("import", "extract"), ("hand out", "extract"), ("method", "report"),
]  # fmt: skip


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    with zygote(tmp_path_factory.mktemp("said")) as found:
        yield found


def assert_whole_after_kills(start: Zygote, work: Path, names: list[str], seed: int) -> int:
    """Kill each named command at random moments until one fell into its work; all is whole then, and after another try.

    Returns how many tries it took.
    """
    rng, seconds = random.Random(seed), {}
    whole = Wholeness(work)
    for name in sorted(set(names)) * 2:  # again: what the first ones make may depend on what the last ones made
        began = time.perf_counter()
        check(start.run(WRITERS[name], work), (0,))
        seconds[name] = time.perf_counter() - began
        whole.take()
    tries = 0
    for name in names:
        code = 0
        while code != -9:
            tries += 1
            running = start.start(WRITERS[name], work)
            time.sleep(rng.random() * seconds[name])
            with contextlib.suppress(ProcessLookupError):
                os.kill(running.pid, 9)
            code = running.wait().code
            if code != -9:
                seconds[name] *= 0.9  # the machine is quicker than it was at first
            assert not (faults := whole.faults()), (name, faults)
    for name in sorted(set(names)):
        check(start.run(WRITERS[name], work), (0,))
        assert not (faults := whole.faults()), (name, faults)
    assert not leftovers(work)
    return tries


@pytest.mark.parametrize("name", FORCED)
def test_a_killed_force_leaves_the_old_or_the_new(name, start, work):
    assert_whole_after_kills(start, work, [name], seed=0)


def test_a_kill_of_any_command_leaves_the_old_or_the_new(start, work):
    assert_whole_after_kills(start, work, ["sweep", "import"], seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORCED)
def test_25_kills_of_a_force(name, start, work):
    tries = assert_whole_after_kills(start, work, [name] * 25, seed=2)
    print(f"{name} --force: 25 kills in its work, {tries} tries")


@pytest.mark.slow
def test_40_kills_over_all_commands(start, work):
    tries = assert_whole_after_kills(start, work, (sorted(WRITERS) * 5)[:40], seed=3)
    print(f"40 kills in a command's work, {tries} tries")


def without_room(start: Zygote, work: Path, name: str, **options) -> bool:
    """Run a command where files do not fit; whether it failed, and then nothing that was there is changed."""
    before, whole = tree(work), Wholeness(work)
    answer = start.run(WRITERS[name], work, **options)
    check(answer, (0, 1))
    if answer.code:
        assert damage(before, tree(work)) == []
        assert not whole.faults() and not leftovers(work)
    return bool(answer.code)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "run")) for name in WRITERS if name != "prune"]
)
def test_files_that_do_not_fit_are_one_line_and_change_nothing(name, start, work):
    largest = 100 if name == "predict" else 700  # bytes; of stderr, too, which may have a warning before the error
    if name == "run":
        check(start.run(WRITERS["sweep"], work), (0,))  # its recipe.json names the data set's file of this copy
    assert without_room(start, work, name, largest=largest)
    check(start.run(WRITERS[name], work), (0,))


@pytest.mark.slow
def test_full_disks(start, lived_in, tmp_path):
    """Every writer on a file system with next to nothing left, a little, and almost enough."""
    failed = []
    for name in WRITERS:
        disk = tmp_path / "disk"
        disk.mkdir(exist_ok=True)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], capture_output=True).returncode:
            pytest.skip("needs the right to mount")
        try:
            work = copy_workspace(lived_in, disk / "work")
            check(start.run(WRITERS[name], work), (0,))
            for left in (0, 4096, 20_480, 65_536):
                with (disk / "ballast").open("wb") as ballast:
                    free = shutil.disk_usage(disk).free
                    ballast.write(bytes(max(free - left, 0)))
                failed += [(name, left)] if without_room(start, work, name, TMPDIR=str(tmp_path)) else []
                (disk / "ballast").unlink()
            check(start.run(WRITERS[name], work), (0,))
        finally:
            subprocess.run(["umount", disk], check=True)
    print(f"{len(failed)} commands on a full disk: {failed}")
    assert len(failed) >= 20


def assert_whole_after_meeting(start: Zygote, work: Path, first: str, second: str) -> tuple[int, int]:
    """Start two commands at once: each works or is refused, one of them works, and all is whole."""
    whole = Wholeness(work)
    for name in {first, second}:
        check(start.run(WRITERS[name], work), (0,))
        whole.take()
    answers = [running.wait() for running in [start.start(WRITERS[name], work) for name in (first, second)]]
    for answer in answers:
        check(answer, (0, 2))
        assert not answer.code or "another process is writing to" in answer.err, answer.err
    codes = tuple(answer.code for answer in answers)
    assert 0 in codes
    assert not (faults := whole.faults()), (first, second, faults)
    assert not leftovers(work)
    return codes


@pytest.mark.parametrize(("first", "second"), [("adapt", "adapt"), ("extract", "prune")])
def test_two_commands_that_meet(first, second, start, work):
    assert_whole_after_meeting(start, work, first, second)


@pytest.mark.slow
def test_20_pairs_that_meet(start, work):
    refused = {(first, second): assert_whole_after_meeting(start, work, first, second) for first, second in TOGETHER}
    print(f"exit codes of {len(refused)} pairs: {refused}")
    assert len(refused) >= 20
