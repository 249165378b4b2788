"""Progress bars on terminals of any width: columns go, digits stay."""

import io
import re
import time

import pytest
from rich.console import Console

from unimos_pipe.base.terminal import Output

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
TOTAL = 3_000


@pytest.mark.parametrize(
    ("width", "times", "rate", "bar"),
    [
        (24, 0, False, False),
        (40, 1, False, False),
        (50, 2, False, False),
        (60, 2, False, True),
        (70, 2, True, False),
        (80, 2, True, True),
        (120, 2, True, True),
    ],
)
def test_a_narrow_terminal_drops_columns_and_no_digits(width, times, rate, bar):
    output, seen = Output(), io.StringIO()
    output.err = Console(
        file=seen, width=width, height=20, force_terminal=True, color_system=None, legacy_windows=False
    )
    with output.progress("office_home/real_world", TOTAL, "images") as advance:
        for _ in range(3):
            time.sleep(0.03)
            advance(TOTAL // 3)
    (line,) = {text for text in CONTROL.sub("\n", seen.getvalue()).splitlines() if f"{TOTAL}/{TOTAL}" in text}
    assert len(line) <= width and line.startswith("office_ho")
    assert (len(re.findall(r"\d:\d\d:\d\d", line)), "images/s" in line, "━━━━━" in line) == (times, rate, bar)


def test_the_same_warning_is_printed_once(capsys):
    output = Output()
    for text in ("one", "two", "one"):
        output.warn(text)
    assert capsys.readouterr().err == "Warning: one\nWarning: two\n"
