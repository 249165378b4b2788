"""Checkpoints: only the very stack they were made by goes on from them."""

import numpy as np
import pytest
import torch
from factories.tasks import random_task, small_method

from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.methods.unimos.training_run import create_run
from unimos_pipe.training import checkpoint
from unimos_pipe.training.checkpoint import NOT_STARTED, Checkpoint


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A checkpoint after epoch 0 of a stack of one run that nobody records."""
    monkeypatch.setattr(checkpoint, "SAVE_INTERVAL", 0.0)
    stack = Trainer([create_run(random_task(), small_method(train__epochs=3, train__batch_size=8), 0)])
    for epoch, records in stack.train():
        list(records)
        if epoch == 0:
            break
    made = Checkpoint.open(tmp_path, ["this stack"])
    made.save_if_due(0, stack, [None])
    return made


def fresh():
    return Trainer([create_run(random_task(), small_method(train__epochs=3, train__batch_size=8), 0)])


def test_its_own_stack_goes_on(saved, tmp_path):
    assert Checkpoint.open(tmp_path, ["this stack"]).load(fresh(), [None]) == (0, None)
    saved.remove()
    assert Checkpoint.open(tmp_path, ["this stack"]).load(fresh(), [None]) == (NOT_STARTED, None)


def test_another_stacks_checkpoint_is_none_at_all(saved, tmp_path):
    other = Checkpoint.open(tmp_path, ["another stack"])
    saved.path.rename(other.path)
    assert other.load(fresh(), [None]) == (
        NOT_STARTED,
        f"checkpoint {other.path} is skipped (it belongs to another stack); its runs start from the beginning",
    )


@pytest.mark.parametrize("number", range(20))
def test_a_damaged_checkpoint_is_refused_and_the_trainer_is_as_it_was(saved, number):
    rng = np.random.default_rng(number)
    content = bytearray(saved.path.read_bytes())
    place = int(rng.integers(len(content)))
    if number % 4 == 0:
        content = content[:place]
    elif number % 4 == 1:
        content = b"" if number == 1 else content + b"x"
    else:
        content[place] ^= 1 << int(rng.integers(8))
    saved.path.write_bytes(content)
    stack = fresh()
    before = {name: tensor.clone() for name, tensor in stack.state_dict().items()}
    epoch, refused = saved.load(stack, [None])
    assert epoch == NOT_STARTED and refused == (
        f"checkpoint {saved.path} is skipped (it is not what was written); its runs start from the beginning"
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in stack.state_dict().items())


def test_a_state_that_fits_but_for_a_generator_changes_nothing():
    stack = fresh()
    before = {name: tensor.clone() for name, tensor in stack.state_dict().items()}
    state = {name: tensor + 1 if tensor.is_floating_point() else tensor.clone() for name, tensor in before.items()}
    state["draws.0.dropout"] = torch.zeros(3, dtype=torch.uint8)
    with pytest.raises(ValueError, match="the checkpoint does not fit these runs: "):
        stack.load_state_dict(state)
    assert all(torch.equal(before[name], tensor) for name, tensor in stack.state_dict().items())


def test_it_is_written_only_when_due(tmp_path):
    made = Checkpoint.open(tmp_path, ["this stack"])
    made.save_if_due(0, fresh(), [None])  # 15 s have not passed
    assert not list(tmp_path.iterdir())
    Checkpoint.open(None, ["this stack"]).save_if_due(0, fresh(), [None])  # no folder, no checkpoint
