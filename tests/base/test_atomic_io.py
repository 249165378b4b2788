"""Files and folders are whole or absent, and nothing of the user's is replaced."""

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unimos_pipe.base import atomic_io
from unimos_pipe.base.atomic_io import (
    OwnedFolder,
    atomic_replace_dir,
    atomic_write,
    check_owned_file,
    check_owned_folder,
    check_writable_folder,
    recover_leftovers,
    write_text,
)
from unimos_pipe.base.errors import ExecutionError, InputError


def test_the_file_that_was_written_takes_the_name_and_is_on_disk_before_it_does(tmp_path, monkeypatch):
    """No copy, which could be torn; the file is synced before the rename, its folder after it."""
    target, told = tmp_path / "a", []
    real = os.fsync

    def fsync(handle):
        told.append((os.fstat(handle).st_ino, target.exists()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_write(target) as part:
        part.write_bytes(b"x")
        made = part.stat().st_ino
    assert target.stat().st_ino == made
    assert told == [(made, False), (tmp_path.stat().st_ino, True)]


@pytest.mark.parametrize(("files", "synced"), [(3, 5), (62, 64), (63, 1)])
def test_a_folder_is_synced_once(tmp_path, monkeypatch, files, synced):
    """Its files, itself and its parent are synced once each; many are synced by one call and the parent."""
    real, paths = os.fsync, []

    def fsync(handle):
        paths.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        real(handle)

    if sys.platform != "linux":
        pytest.skip("names of open files are read from /proc")
    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_replace_dir(tmp_path / "folder") as fresh:
        for number in range(files):
            write_text(fresh / f"{number}", "x")
        assert paths == []
    assert len(paths) == len(set(paths)) == synced and paths[-1] == str(tmp_path)
    assert len(names(tmp_path / "folder")) == files


def test_a_full_disk_at_the_one_call_is_an_error(tmp_path, monkeypatch):
    """Errors of the file system are not lost."""
    real = atomic_io.ctypes.CDLL

    class Library:
        def __init__(self, *args, **kwargs):
            self.real = real(*args, **kwargs)

        def syncfs(self, handle):
            atomic_io.ctypes.set_errno(errno.ENOSPC)
            return -1

        def __getattr__(self, name):
            return getattr(self.real, name)

    monkeypatch.setattr(atomic_io.ctypes, "CDLL", Library)
    with pytest.raises(OSError, match="No space left on device"), atomic_replace_dir(tmp_path / "folder") as fresh:
        for number in range(64):
            write_text(fresh / f"{number}", "x")
    assert names(tmp_path) == []


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_modes_are_what_the_umask_leaves(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_what_is_being_written_has_a_name_nobody_can_guess(tmp_path):
    seen = set()
    for _ in range(3):
        with atomic_write(tmp_path / "a") as part:
            seen.add(part.name)
            part.write_text("x")
    assert len(seen) == 3 and all(len(name) == len(".unimos-12345678-0123456789abcdef.part") for name in seen)
    assert names(tmp_path) == ["a"]


def test_a_link_in_the_part_files_place_is_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    monkeypatch.setattr(atomic_io.secrets, "token_hex", lambda count: "0" * 16)  # a guess that was right
    with atomic_write(tmp_path / "a") as part:
        pass
    part.symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_text(tmp_path / "a", "new")
    part.unlink()
    with (
        pytest.raises(ExecutionError, match="was replaced by another file while it was written"),
        atomic_write(tmp_path / "a"),
    ):
        part.unlink()
        part.symlink_to(victim)
    assert (victim.read_text(), (tmp_path / "a").read_text()) == ("mine", "")


def test_a_failed_block_leaves_the_old_as_it_was(tmp_path):
    write_text(tmp_path / "file", "old")
    with atomic_replace_dir(tmp_path / "folder") as fresh:
        (fresh / "x").write_text("old")
    for replace, target in ((atomic_write, "file"), (atomic_replace_dir, "folder")):
        with pytest.raises(KeyboardInterrupt), replace(tmp_path / target):
            raise KeyboardInterrupt
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "x").read_text() == "old"


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_swapped_whole(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(atomic_io, "_exchange_names", lambda one, two: False)
    for text in ("old", "new"):
        with atomic_replace_dir(tmp_path / "folder") as fresh:
            (fresh / text).write_text(text)
    assert names(tmp_path) == ["folder"] and names(tmp_path / "folder") == ["new"]


def test_here_names_are_exchanged_in_one_step(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert atomic_io._exchange_names(tmp_path / "a", tmp_path / "b")
    assert names(tmp_path / "a") == ["b"] and names(tmp_path / "b") == ["a"]
    with pytest.raises(FileNotFoundError):
        atomic_io._exchange_names(tmp_path / "a", tmp_path / "none")


def test_a_kill_between_two_renames_is_mended(tmp_path, monkeypatch):
    """Without atomic exchange: a process killed after renaming the old folder loses nothing."""
    target = tmp_path / "folder"
    with atomic_replace_dir(target) as fresh:
        (fresh / "old").touch()
    part = atomic_io._temp_path(target, "part")
    part.mkdir()
    target.rename(part.with_suffix(".old"))
    (tmp_path / ".unimos-00000000-0123456789abcdef.part").touch()  # another target's
    recover_leftovers(target)
    assert names(target) == ["old"]
    assert names(tmp_path) == [".unimos-00000000-0123456789abcdef.part", "folder"]
    (tmp_path / "x").mkdir()
    (tmp_path / "x").rename(part.with_suffix(".old"))  # killed after the second rename
    recover_leftovers(target)
    assert names(target) == ["old"] and len(names(tmp_path)) == 2


def test_a_probe_leaves_nothing_not_even_a_killed_ones(tmp_path):
    atomic_io._temp_path(tmp_path / "probe", "part").touch()  # killed just then
    assert check_writable_folder(tmp_path, "out") == tmp_path and names(tmp_path) == []


KIND = OwnedFolder("a thing", ("mark", "parts/*.txt"), lambda folder: (folder / "mark").is_file())


def test_only_a_folder_of_the_tools_own_is_replaced(tmp_path):
    target = tmp_path / "t"
    check_owned_folder(target, KIND, "out")
    (target / "parts").mkdir(parents=True)
    check_owned_folder(target, KIND, "out")
    (target / "parts" / "a.txt").touch()

    def told() -> str:
        with pytest.raises(InputError) as caught:
            check_owned_folder(target, KIND, "out")
        return str(caught.value)

    assert told() == f"{target} is not empty and not a thing that this tool made; choose another out"
    (target / "mark").touch()
    check_owned_folder(target, KIND, "out")
    for stray in ("parts/mark", "a.txt", "parts/deep/a.txt", ".hidden"):
        (target / stray).parent.mkdir(exist_ok=True)
        (target / stray).touch()
        assert told() == f"{target} also holds {stray}, which this tool did not make; choose another out"
        (target / stray).unlink()
    (tmp_path / "link").symlink_to(target)
    target = tmp_path / "link"
    assert told() == f"{target} is not a folder; choose another out"


def test_only_a_file_of_the_tools_own_is_replaced(tmp_path):
    target = tmp_path / "t.csv"

    def told(path) -> str:
        with pytest.raises(InputError) as caught:
            check_owned_file(path, "path,class", "a table", "out")
        return str(caught.value)

    check_owned_file(target, "path,class", "a table", "out")
    for content in (b"", b"path,class", b"path,class,more\n1,2,3\n"):
        target.write_bytes(content)
        check_owned_file(target, "path,class", "a table", "out")
    for content in (b"path", b"\xff\xd8\xff\xe0 a photo", b"Path,Class\n"):
        target.write_bytes(content)
        assert told(target) == f"{target} is not a table that this tool wrote and is left alone; choose another out"
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path, tmp_path / "link"):
        assert told(path) == f"{path} is not a regular file; choose another out"
    long = tmp_path / ("x" * 300)
    assert told(long) == f"cannot write {long}: File name too long; choose another out"


_REPLACE = """
import sys
from pathlib import Path
from unimos_pipe.base.atomic_io import atomic_replace_dir, recover_leftovers, write_text
target = Path(sys.argv[1])
recover_leftovers(target)
print("up", flush=True)
for round in range(10**6):
    with atomic_replace_dir(target) as fresh:
        for name in "abc":
            write_text(fresh / name, str(round))
"""


def test_kills_leave_the_old_or_the_new_never_neither(tmp_path):
    target = tmp_path / "folder"
    for kill in range(6):
        process = subprocess.Popen([sys.executable, "-c", _REPLACE, target], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "up\n"
        while not target.exists():
            time.sleep(0.001)
        for _ in range(200):  # a reader beside it
            assert target.is_dir()
        time.sleep(0.003 * kill)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len({(target / name).read_text() for name in "abc"}) == 1
    recover_leftovers(target)
    assert names(tmp_path) == ["folder"]
