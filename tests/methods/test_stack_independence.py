"""A run's bytes do not depend on the runs that it trains with, at the sizes of CLIP's features.

Below about 400 multiplications torch takes loops of its own, which a lone product of that size does not.
"""

import pytest
import torch
from factories.tasks import random_task

from unimos_pipe.base.method_config import method_spec
from unimos_pipe.methods.unimos.manual_backward import multiply_vectors
from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.methods.unimos.training_run import create_run

BATCHES = (1, 2, 3)


def matrix_products_are_batch_invariant() -> bool:
    """Whether this CPU's library rounds a product of matrices alike whatever stands beside it in a batch."""
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(3, 64, 128, generator=generator), torch.randn(3, 36, 128, generator=generator)
    whole = torch.bmm(x, w.mT)
    return all(torch.equal(torch.bmm(x[:n], w[:n].mT), whole[:n]) for n in BATCHES)


def test_products_with_vectors_are_rounded_alike_in_every_batch():
    generator = torch.Generator().manual_seed(0)
    matrix, vector = torch.randn(3, 64, 256, generator=generator), torch.randn(3, 256, 1, generator=generator)
    whole = multiply_vectors(matrix, vector)
    assert torch.equal(multiply_vectors(matrix[:1], vector[:1]), whole[:1])
    assert torch.allclose(whole, matrix @ vector, atol=1e-4)  # 256 products of numbers around 1 in float32


@pytest.mark.parametrize("variant", ["full", "fused-teacher"])
def test_a_lone_run_is_the_run_of_a_stack_to_the_byte(variant):
    if not matrix_products_are_batch_invariant():
        pytest.skip("this CPU's library rounds a product of matrices by its batch")
    task = random_task(source=144, target=144, dim=128, classes=36, dtype=torch.float32)
    method = method_spec(variant, {"train.epochs": 2})

    def states(seeds):
        trainer = Trainer([create_run(task, method, seed) for seed in seeds])
        for _, records in trainer.train():
            for _ in records:
                pass
        return [trainer.model_state(index) for index in range(len(seeds))]

    stack = states([0, 1, 2])
    for seed in (0, 1, 2):
        (lone,) = states([seed])
        assert all(torch.equal(lone[name], stack[seed][name]) for name in lone)
