"""Fused operators are used only where they exist and give fp32's values."""

from collections.abc import Callable

import pytest
import torch

from unimos_pipe.extract import fused_operators
from unimos_pipe.extract.fused_convolutions import FusedConvolution, can_fuse_convolutions
from unimos_pipe.extract.fused_operators import agree_with_fp32
from unimos_pipe.extract.fused_transformer import FusedLinear, can_fuse_products

KINDS = {"convolutions": (FusedConvolution, can_fuse_convolutions), "products": (FusedLinear, can_fuse_products)}


@pytest.fixture(params=KINDS)
def kind(request) -> tuple[type[torch.nn.Module], Callable[[], bool]]:
    """A module of fused operators, and the check of these, which passes here."""
    module, can_fuse = KINDS[request.param]
    if not can_fuse():
        pytest.skip("no bf16 in this CPU, or no fused operators in this torch")
    return module, can_fuse.__wrapped__


@pytest.mark.parametrize("fault", [AttributeError, RuntimeError, TypeError])
def test_operators_that_are_gone_are_not_used(kind, monkeypatch, fault):
    module, can_fuse = kind

    def forward(self, *inputs):
        raise fault

    monkeypatch.setattr(module, "forward", forward)
    assert can_fuse() is False


@pytest.mark.parametrize("lost", ["activation", "residual"])
def test_operators_of_another_meaning_are_not_used(kind, monkeypatch, lost):
    module, can_fuse = kind
    forward = module.forward

    def other(self, inputs, residual=None):
        if lost == "activation":
            self.activation = "none"
        return forward(self, inputs, None if lost == "residual" else residual)

    monkeypatch.setattr(module, "forward", other)
    assert can_fuse() is False


def test_a_cpu_without_bf16_does_not_fuse(monkeypatch):
    equal = [(torch.ones(2), torch.ones(2))]
    monkeypatch.setattr(fused_operators, "cpu_has_bf16", lambda: True)
    assert agree_with_fp32(lambda: equal)
    monkeypatch.setattr(fused_operators, "cpu_has_bf16", lambda: False)
    assert not agree_with_fp32(lambda: equal)


def test_values_may_differ_by_bf16s_rounding(monkeypatch):
    """Values below 2 are rounded by at most 2^-8; the tolerance is twice that."""
    monkeypatch.setattr(fused_operators, "cpu_has_bf16", lambda: True)
    exact = torch.linspace(-1.99, 1.99, 100)
    assert agree_with_fp32(lambda: [(exact.bfloat16(), exact)])
    assert not agree_with_fp32(lambda: [(exact.bfloat16(), exact), (exact.bfloat16(), exact + 2**-6)])
