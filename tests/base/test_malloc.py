"""Allocator settings, measured by the number of page faults."""

import subprocess
import sys

import pytest

FAULTS = """
import random, resource, sys, torch
from unimos_pipe.base.malloc import tune_malloc

def photographs(count):
    for _ in range(count):
        torch.empty(random.randint(34, 60) << 20, dtype=torch.uint8).fill_(1)

random.seed(0)
torch.set_num_threads(1)
tune_malloc(blocks_of_any_size=len(sys.argv) > 1)
photographs(15)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
photographs(5)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="about glibc")
def test_a_large_photograph_takes_the_memory_of_those_before():
    usual, kept = (
        int(subprocess.check_output([sys.executable, "-c", FAULTS, *told], text=True)) for told in ([], ["any size"])
    )
    if usual < 500:
        pytest.skip("this allocator keeps such blocks by itself, or pages are large")
    assert kept < usual / 10
