"""Check of torch's fused operators for bf16 on a CPU. They are private, so they are compared before they are used."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from unimos_pipe.base.device import cpu_has_bf16

TOLERANCE = 2**-7  # bf16 rounds values below 2 by at most 2^-8


@torch.inference_mode()
def agree_with_fp32(compute_pairs: Callable[[], Sequence[tuple[Tensor, Tensor]]]) -> bool:
    """Return whether the CPU computes in bf16 and fused operators exist and give fp32's values.

    Args:
        compute_pairs: returns (bf16 output of a fused operator, its fp32 value); values are below 2.
    """
    if not cpu_has_bf16():
        return False
    try:
        pairs = compute_pairs()
    except (AttributeError, RuntimeError, TypeError):  # another version of torch, or built without oneDNN
        return False
    return all(torch.allclose(fused.float(), exact, rtol=0, atol=TOLERANCE) for fused, exact in pairs)
