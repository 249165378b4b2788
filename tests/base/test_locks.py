"""One writer per thing; the second is told who the first is."""

import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from unimos_pipe.base import waits
from unimos_pipe.base.errors import ExecutionError, InputError
from unimos_pipe.base.locks import exclusive_lock, lock_path

_HOLD = """
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unimos_pipe.base.locks import exclusive_lock
with exclusive_lock(Path(sys.argv[1]), wait=True):
    print("held", flush=True)
    sys.stdin.read()
"""


def started(thing, *more):
    return subprocess.Popen(
        [sys.executable, "-c", _HOLD, thing, *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_the_second_is_refused_with_the_firsts_host_process_and_command(tmp_path):
    thing = tmp_path / "thing"
    first = started(thing, "two words")
    assert first.stdout.readline() == "held\n"
    with pytest.raises(InputError) as caught, exclusive_lock(thing):
        pass
    assert str(caught.value) == (
        f"another process is writing to {thing} (host {platform.node()}, process {first.pid}, -c {thing} 'two words'); "
        "wait for it to finish"
    )
    first.kill()
    first.wait()
    assert lock_path(thing).is_file()  # left by the killed, and free
    with exclusive_lock(thing) as alone:
        assert alone and f"process {os.getpid()}, " in lock_path(thing).read_text()
    assert list(tmp_path.iterdir()) == []


def test_a_waiting_second_goes_on_when_the_first_is_done(tmp_path):
    first = started(tmp_path / "thing")
    assert first.stdout.readline() == "held\n"
    second = started(tmp_path / "thing")
    first.communicate("")
    assert second.stdout.readline() == "held\n"  # on a new lock file: the first removed its own
    with pytest.raises(InputError, match=f"process {second.pid}, "), exclusive_lock(tmp_path / "thing"):
        pass
    second.communicate("")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ExecutionError) as caught, exclusive_lock(tmp_path / "file" / "thing"):
        pass
    assert str(caught.value) == f"cannot write to {tmp_path / 'file' / 'thing'}: File exists"


def test_a_lock_file_is_never_made_through_a_link(tmp_path):
    (tmp_path / "mine").write_text("mine")
    lock_path(tmp_path / "thing").symlink_to(tmp_path / "mine")
    with pytest.raises(ExecutionError, match=r"cannot write to .*thing: Too many levels of symbolic links"):  # noqa: SIM117
        with exclusive_lock(tmp_path / "thing"):
            pass
    assert (tmp_path / "mine").read_text() == "mine"


def test_names_as_long_as_a_file_system_takes_have_a_lock_of_their_own(tmp_path):
    with exclusive_lock(tmp_path / ("x" * 255)), exclusive_lock(tmp_path / ("x" * 254 + "y")):
        assert len(list(tmp_path.iterdir())) == 2


def test_a_wait_for_a_lock_is_told_with_its_holder(tmp_path, monkeypatch):
    monkeypatch.setattr(waits, "FIRST", 0.05)
    monkeypatch.setattr(waits, "LATER", (0.05,))
    told = []
    with ThreadPoolExecutor(1) as pool, waits.waits_told_to(told.append):
        with exclusive_lock(tmp_path / "thing"):

            def second() -> None:
                with exclusive_lock(tmp_path / "thing", wait=True):
                    pass

            waiting = pool.submit(second)
            until = time.monotonic() + 60
            while len(told) < 2 and time.monotonic() < until:
                time.sleep(0.01)
        waiting.result(60)
    assert len(told) >= 2
    host = f"host {platform.node()}, process {os.getpid()}, "
    assert told[0].startswith(f"waiting for {host}") and f", who writes to {tmp_path / 'thing'}, " in told[0]
    assert told[0].endswith(" s by now; Ctrl-C ends the wait")
