"""Checkpoints: only the very stack they were made by goes on from them."""

import pytest
from made import made_task, small_method

from unimos_pipe.adapt import checkpoint
from unimos_pipe.adapt.checkpoint import NOT_STARTED, Checkpoint
from unimos_pipe.methods.unimos.trainer import Trainer, seeded_run


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A checkpoint after epoch 0 of a stack of one run that nobody records."""
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0.0)
    stack = Trainer([seeded_run(made_task(), small_method(train__epochs=3, train__batch_size=8), 0)])
    for epoch, records in stack.train():
        list(records)
        if epoch == 0:
            break
    made = Checkpoint.open(tmp_path, ["this stack"])
    made.save_if_due(0, stack, [None])
    return made


def fresh():
    return Trainer([seeded_run(made_task(), small_method(train__epochs=3, train__batch_size=8), 0)])


def test_its_own_stack_goes_on(saved, tmp_path):
    assert Checkpoint.open(tmp_path, ["this stack"]).load(fresh(), [None]) == 0
    saved.remove()
    assert Checkpoint.open(tmp_path, ["this stack"]).load(fresh(), [None]) == NOT_STARTED


def test_another_stacks_checkpoint_is_none_at_all(saved, tmp_path):
    other = Checkpoint.open(tmp_path, ["another stack"])
    saved.path.rename(other.path)
    assert other.load(fresh(), [None]) == NOT_STARTED


def test_it_is_written_only_when_due(tmp_path):
    made = Checkpoint.open(tmp_path, ["this stack"])
    made.save_if_due(0, fresh(), [None])  # 15 s have not passed
    assert not list(tmp_path.iterdir())
    Checkpoint.open(None, ["this stack"]).save_if_due(0, fresh(), [None])  # no folder, no checkpoint
