"""A short round of every fuzzing target; tests/integration/fuzz/fuzz.py says how to run long ones."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

FUZZ = Path(__file__).parent / "fuzz" / "fuzz.py"
TARGETS = ("shard", "list", "spec", "recipe", "run", "export")


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has no wheel for this Python or machine")
def test_a_short_round_of_every_target_finds_no_crash(tmp_path):
    command = [sys.executable, FUZZ, "all", "-runs=200", "-seed=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", errors="replace")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^target (\w+)$", done.stderr, re.MULTILINE) == list(TARGETS)
    counts = [int(count) for count in re.findall(r"^Done (\d+) runs", done.stderr, re.MULTILINE)]
    assert len(counts) == len(TARGETS) and min(counts) >= 200  # libFuzzer may finish a round it has begun
