"""How many runs a stack holds: what a quarter of the free memory takes, shared by the stacks that train at a time."""

import pytest
from factories.tasks import random_task, small_method

from unimos_pipe.methods.unimos.training_run import create_run
from unimos_pipe.training import batching
from unimos_pipe.training.batching import max_stack_size


@pytest.mark.parametrize(("processes", "size"), [(1, 12), (2, 6), (5, 2), (100, 1)])
def test_stacks_share_a_quarter_of_free_memory(processes, size, monkeypatch):
    run = create_run(random_task(), small_method(train__batch_size=8), 0)
    monkeypatch.setattr(batching, "MAX_STACK_SIZE", 10**9)
    monkeypatch.setattr(batching, "measure_free_memory", lambda: 4 * 10**12)
    per_run = 10**12 // max_stack_size(run, 1)
    monkeypatch.setattr(batching, "measure_free_memory", lambda: 4 * 12 * per_run + 1000)
    assert max_stack_size(run, processes) == size
    monkeypatch.setattr(batching, "MAX_STACK_SIZE", 3)
    assert max_stack_size(run, processes) == min(size, 3)
