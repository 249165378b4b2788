"""Cells that a spreadsheet would run are made harmless, and read back as they were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimos_pipe.base.csv_escaping import escape_name, escape_path, unescape_name, unescape_path


@pytest.mark.parametrize("start", list("=+-@\t\r\n"))
def test_what_a_spreadsheet_would_run(start):
    assert escape_path(f"{start}cmd|x.png") == f"./{start}cmd|x.png"
    assert escape_name(f"{start}SUM(A1)") == f"'{start}SUM(A1)"


def test_everything_else_stays():
    for text in ("", "a.png", "./a.png", "'quoted", "1-2", "é"):
        assert escape_path(text) == escape_name(text) == text


@given(st.text(alphabet="=+-@./'\t\r\na", max_size=6))
def test_any_text_comes_back(text):
    assert unescape_path(escape_path(text)) == text
    assert unescape_name(escape_name(text)) == text
    assert not escape_path(text).startswith(tuple("=+-@\t\r\n"))
    assert not escape_name(text).startswith(tuple("=+-@\t\r\n"))
