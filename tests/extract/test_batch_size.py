"""Automatic batch size and number of workers."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from unimos_pipe.base.errors import InputError
from unimos_pipe.extract import batch_size
from unimos_pipe.extract.batch_size import find_batch_size, measure_batch_size, sample_files
from unimos_pipe.extract.image_loader import resolve_worker_count


def test_the_best_batch_is_the_last_that_gained(monkeypatch):
    """A made-up encoder that is much faster with 32 than with 16, and hardly faster with 64."""

    class Made:
        device = torch.device("cpu")

        def encode_images(self, pixels):
            return len(pixels)

    seconds = {16: 0.016, 32: 0.016, 64: 0.0315, 128: 0.01}
    monkeypatch.setattr(batch_size, "_seconds", lambda work: seconds[work()])
    tried = {}
    assert find_batch_size(Made(), torch.zeros(5, 2, 2, 3, dtype=torch.uint8), tried.__setitem__) == 32
    assert tried == {16: 1000, 32: 2000, 64: pytest.approx(2031.7, abs=0.1)}


@pytest.mark.parametrize(("gain", "best"), [(1.029, 16), (1.031, 32)])
def test_a_larger_batch_has_to_gain_three_percent(monkeypatch, gain, best):
    class Made:
        device = torch.device("cpu")

        def encode_images(self, pixels):
            return len(pixels)

    rates = {16: 1000, 32: 1000 * gain, 64: 1}
    monkeypatch.setattr(batch_size, "_seconds", lambda work: work() / rates[work()])
    assert find_batch_size(Made(), torch.zeros(5, 2, 2, 3, dtype=torch.uint8), lambda size, rate: None) == best


@pytest.mark.parametrize(("count", "step"), [(3, 1), (64, 1), (127, 1), (128, 2), (1000, 15)])
def test_a_sample_is_spread_over_all_images(count, step):
    manifest = SimpleNamespace(root=Path("r"), paths=[f"{number}.png" for number in range(count)])
    chosen = [int(path.stem) for path in sample_files([manifest])]
    assert chosen == [*range(0, count, step)][:64]


def test_workers_by_device_and_a_batch_size_that_nothing_can_be_measured_for():
    assert (resolve_worker_count(None, torch.device("cpu")), resolve_worker_count(0, torch.device("cuda"))) == (2, 0)
    assert resolve_worker_count(None, torch.device("cuda")) >= 1
    with pytest.raises(InputError) as caught:
        measure_batch_size(None, None)
    assert str(caught.value) == "batch_size auto: none of the images tried can be read; give a number"
