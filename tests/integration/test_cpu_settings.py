"""The numerical tests under other instruction sets, thread counts and roundings than this machine's own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SETTINGS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR", "UNIMOS_TEST_ROUNDING")


def test_the_log_says_what_numbers_depend_on():
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "MKL_CBWR": "AVX2", "ATEN_CPU_CAPABILITY": "default"}
    process = subprocess.run(
        [sys.executable, TESTS / "describe_cpu.py"], env=environment, capture_output=True, text=True, check=True
    )
    assert process.stdout.startswith("CPU: ") and process.stdout.endswith(
        " uses DEFAULT, 2 thread(s), OMP_NUM_THREADS=2, ATEN_CPU_CAPABILITY=default, MKL_CBWR=AVX2\n"
    )


@pytest.mark.slow
def test_the_numerical_tests_pass_under_every_setting():
    process = subprocess.run([sys.executable, TESTS / "cpu_settings.py"], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    assert all(process.stdout.count(f"\n{name}=") > 0 for name in SETTINGS)
