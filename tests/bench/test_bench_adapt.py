"""Benchmark of stage two: FLOPs by hand, consistent results."""

import pytest
import torch

from unimos_pipe.base.method_config import method_spec
from unimos_pipe.bench.adapt import SIZES, Size, measure_adapt, profile_step, step_flops

TINY = Size(64, 96, 16, 5)


def test_flops_of_a_step_by_hand():
    """Office-Home, B = 32: every product of METHOD.md section 3, 2 FLOPs a multiply-add."""
    separators = 2 * (64 * 1024 * 1024) * 2  # two modules; forward and weight gradient
    bottleneck = (64 * 1024 * 256) * 3  # forward, weight and input gradient
    classifier = (64 * 256 * 65) * 3
    weight = 1024 * (256 + 32) * 3  # two layers as one vector
    discriminator = (128 * 1024 * 256) * 2 + (64 * 1024 * 256)  # 4B rows, of which 2B reach its weights
    text = (64 * 1024 * 65) * 2 + (32 * 1024 * 65)  # text logits forward and backward, teacher forward
    total = 2 * (separators + bottleneck + classifier + weight + discriminator + text)
    assert step_flops(SIZES["office_home"], method_spec(), 32) == total == 834_764_800


def test_figures_hang_together():
    method = method_spec("full", {"train.epochs": 3, "train.min_steps": 1})
    found = measure_adapt(TINY, method, (1, 2), torch.device("cpu"), repeats=1)
    assert found.step_flops == step_flops(TINY, method, 32)
    assert found.epoch == pytest.approx(2 * found.step + found.evaluation, rel=1e-9)  # 64 // 32 = 2 steps
    assert found.step_rate == pytest.approx(found.step_flops / found.step / found.matmul_rate)
    assert set(found.runs_per_second) == {1, 2} and all(rate > 0 for rate in found.runs_per_second.values())
    shares = profile_step(TINY, method, torch.device("cpu"))
    assert len(shares) == 9 and sum(share for _, share in shares) == pytest.approx(1)
