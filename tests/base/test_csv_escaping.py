"""Cells that a spreadsheet would run are made harmless, and read back as they were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unimos_pipe.base.csv_escaping import name_from_cell, name_to_cell, path_from_cell, path_to_cell


@pytest.mark.parametrize("start", list("=+-@\t\r\n"))
def test_what_a_spreadsheet_would_run(start):
    assert path_to_cell(f"{start}cmd|x.png") == f"./{start}cmd|x.png"
    assert name_to_cell(f"{start}SUM(A1)") == f"'{start}SUM(A1)"


def test_everything_else_stays():
    for text in ("", "a.png", "./a.png", "'quoted", "1-2", "é"):
        assert path_to_cell(text) == name_to_cell(text) == text


@given(st.text(alphabet="=+-@./'\t\r\na", max_size=6))
def test_any_text_comes_back(text):
    assert path_from_cell(path_to_cell(text)) == text
    assert name_from_cell(name_to_cell(text)) == text
    assert not path_to_cell(text).startswith(tuple("=+-@\t\r\n"))
    assert not name_to_cell(text).startswith(tuple("=+-@\t\r\n"))
