"""Faults that a test must catch: each is made in a copy of the package, and its test fails there.

``mutants.toml`` holds a table per fault: ``old``, which occurs once in ``file``, becomes ``new``, and ``test`` fails.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
MUTANTS = tomllib.loads(Path(__file__).with_name("mutants.toml").read_text(encoding="utf-8"))


def run_test(package: Path, test: str) -> tuple[int, str]:
    """Return pytest's exit status and output for one test of the package found in a folder."""
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PROJECT / "tests" / test)]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    process = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    return process.returncode, process.stdout + process.stderr


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_can_be_made(name):
    """The text to be replaced occurs once, and the test that is to fail is there."""
    mutant = MUTANTS[name]
    assert set(mutant) == {"file", "test", "old", "new"} and mutant["old"] != mutant["new"]
    assert (PROJECT / "unimos_pipe" / mutant["file"]).read_text(encoding="utf-8").count(mutant["old"]) == 1
    file, _, test = mutant["test"].partition("::")
    function = re.escape(test.partition("[")[0])
    assert re.search(rf"^def {function}\(", (PROJECT / "tests" / file).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_the_mutant_is_caught(name, tmp_path):
    """The test fails, by an assertion or the code's own error; that it passes without the fault, the suite shows."""
    mutant = MUTANTS[name]
    for folder in ("unimos_pipe", "data_manifests", "pipelines"):
        shutil.copytree(PROJECT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "unimos_pipe" / mutant["file"]
    path.write_text(path.read_text(encoding="utf-8").replace(mutant["old"], mutant["new"]), encoding="utf-8")
    status, text = run_test(tmp_path, mutant["test"])
    assert status == 1 and "FAILED" in text, text
