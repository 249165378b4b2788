"""Files of others: what is no regular file is not waited for."""

import os

import pytest

from unimos_pipe.base.safe_open import open_regular, read_text


def test_a_byte_order_mark_goes_and_line_ends_stay(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfa\r\nb\r")
    assert read_text(tmp_path / "a") == "a\r\nb\r"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_text(tmp_path / "a", max_bytes=4)


def test_pipes_devices_and_folders_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "named pipe"), ("/dev/zero", "device"), (tmp_path, "folder")):
        with pytest.raises(OSError) as caught:
            open_regular(path)
        assert caught.value.strerror == f"a {kind}, not a regular file"
