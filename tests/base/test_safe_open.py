"""Files that are read: what is no regular file is not waited for, and a failure to read is one by its own cause."""

import errno
import os
import pickle
from pathlib import Path

import pytest

from unimos_pipe.base.errors import InputError, ReadError
from unimos_pipe.base.safe_open import list_folder, open_regular, read_bytes, read_json, read_text, walk_files


def test_a_byte_order_mark_goes_and_line_ends_stay(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfa\r\nb\r")
    assert read_text(tmp_path / "a") == "a\r\nb\r"


def test_a_file_above_its_limit_is_not_read(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    with pytest.raises(ReadError) as caught:
        read_bytes(tmp_path / "a", 4)
    assert str(caught.value) == f"cannot read {tmp_path / 'a'}: 5 bytes, more than 4"
    assert caught.value.exit_code == 2
    (tmp_path / "b").write_bytes(b"four")
    assert read_bytes(tmp_path / "b", 4) == b"four"
    os.truncate(tmp_path / "a", 2**40)  # a sparse file takes no disk
    with pytest.raises(ReadError, match="1,099,511,627,776 bytes, more than 16,777,216"):
        read_json(tmp_path / "a")


def test_pipes_devices_and_folders_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "named pipe"), (Path("/dev/zero"), "device"), (tmp_path, "folder")):
        with pytest.raises(ReadError) as caught, open_regular(path, 1):
            pass
        assert str(caught.value) == f"cannot read {path}: a {kind}, not a regular file"


@pytest.mark.parametrize(
    ("number", "code", "todo"),
    [
        (errno.EIO, 1, ". It may be sound; run the command again"),
        (errno.EMFILE, 1, ". It may be sound; run the command again"),
        (errno.ENOENT, 2, ""),
        (errno.EACCES, 2, ""),
    ],
)
def test_the_systems_errors_become_one_kind_with_their_own_cause(number, code, todo, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(ReadError) as caught:
        read_bytes(tmp_path / "a", 4)
    assert str(caught.value) == f"cannot read {tmp_path / 'a'}: {os.strerror(number)}{todo}"
    assert (caught.value.number, caught.value.exit_code, caught.value.absent) == (number, code, number == errno.ENOENT)
    again = pickle.loads(pickle.dumps(caught.value))  # as it comes from a worker process
    assert (str(again), again.number) == (str(caught.value), number)
    assert isinstance(caught.value.of_input("the spec"), InputError) == (code == 2)


def test_a_file_that_changes_while_it_is_read_is_not_judged(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"12345")
    plain = os.fstat

    def grows(handle: int):
        """Somebody writes to it whenever we look."""
        with (tmp_path / "a").open("ab") as file:
            file.write(b"6")
        return plain(handle)

    monkeypatch.setattr("os.fstat", grows)
    with pytest.raises(ReadError, match=r"it changed while it was read\. It may be sound"):
        read_bytes(tmp_path / "a", 10)


def test_a_folder_that_cannot_be_listed_is_no_empty_folder(tmp_path, monkeypatch):
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("b/c/two.h5", "b/one.h5", "three.txt"):
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to("..")
    assert [path.name for path in walk_files(tmp_path)] == ["two.h5", "loop", "one.h5", "three.txt"]
    assert list_folder(tmp_path / "b", "*.h5") == [tmp_path / "b" / "one.h5"]
    assert list_folder(tmp_path / "none") == []

    def refuse(*_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ReadError, match="Too many open files"):
        list_folder(tmp_path)
