"""Rounding that another CPU may do: bounds for tests that compare floating-point results, and an imitation of it.

Two programs of one formula, or one program on two CPUs, differ by rounding alone: each operation by some machine
epsilons of its terms, which later operations carry along. What that comes to depends on the formula, so a test
measures it: it runs its reference on inputs that are off by a few epsilons and takes a stated multiple of the spread.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from unimos_pipe.deploy.adapted_model import AdaptedModel
from unimos_pipe.extract.encoder import ClipEncoder
from unimos_pipe.methods.task import AdaptationTask

aten = torch.ops.aten
SUMS = {  # operations whose rounding depends on the order of their terms
    *(aten.mm, aten.bmm, aten.addmm, aten.baddbmm, aten.baddbmm_, aten.addmv, aten.mv, aten.dot, aten.linear),
    *(aten.sum, aten.mean, aten.var, aten.std, aten.linalg_vector_norm, aten.norm, aten.cumsum, aten.logsumexp),
    *(aten.native_layer_norm, aten.convolution),
    *(aten._scaled_dot_product_flash_attention_for_cpu, aten._linalg_svd, aten._cdist_forward),
    *(aten.linalg_solve_triangular, aten.linalg_cholesky_ex, aten.cholesky_solve),
}
FUNCTIONS = {  # operations that approximate, or that may be fused into one with a single rounding
    *(aten.exp, aten.log, aten.sigmoid, aten.tanh, aten.rsqrt, aten.log1p, aten.pow, aten.logit, aten.gelu),
    *(aten._softmax, aten._log_softmax, aten.addcmul_, aten.addcmul),
    *(aten.native_batch_norm, aten.native_batch_norm_backward),
}


def perturbed(tensor: Tensor, seed: int) -> Tensor:
    """Return the tensor with every value off by up to 4.5 machine epsilons (1e-15 in float64)."""
    noise = torch.rand(tensor.shape, generator=torch.Generator().manual_seed(seed), dtype=tensor.dtype)
    return tensor * (1 + 4.5 * torch.finfo(tensor.dtype).eps * (2 * noise - 1))


def perturbed_task(task: AdaptationTask, seed: int) -> AdaptationTask:
    """Return the task with perturbed features of both domains and of the prompts."""
    return replace(
        task,
        source=replace(task.source, features=perturbed(task.source.features, seed), name=f"{task.source.name} {seed}"),
        target=replace(task.target, features=perturbed(task.target.features, seed), name=f"{task.target.name} {seed}"),
        text_features=perturbed(task.text_features, seed),
    )


def rounding_bounds(compute: Callable[[int | None], Sequence[Tensor]], steps: int) -> list[float]:
    """Return how far apart two programs of one computation may be by rounding alone, for each of its results.

    Every step rounds anew, by no more than a perturbation of the inputs by a few epsilons, and the error of no later
    step is carried farther than that of the first: ``steps`` times the spread under such perturbations, and the epsilon
    to which a result that does not depend on them is rounded itself.

    Args:
        compute: returns the results for the inputs perturbed with a seed, or for the inputs themselves (``None``).
        steps: operations one after the other, each of which rounds sums of the size of the inputs.
    """
    reference = compute(None)
    spreads = [0.0] * len(reference)
    for seed in range(3):
        for index, (tensor, exact) in enumerate(zip(compute(seed), reference, strict=True)):
            spreads[index] = max(spreads[index], float((tensor - exact).abs().max()))
    return [
        steps * (spread + torch.finfo(exact.dtype).eps * float(exact.abs().max()))
        for spread, exact in zip(spreads, reference, strict=True)
    ]


def assert_within(
    found: Sequence[Tensor], wanted: Sequence[Tensor], bounds: Sequence[float], most: float = 1e-4
) -> None:
    """Assert that every result is within its bound, and no bound above ``most``, where it would say nothing."""
    assert max(bounds) < most
    for index, (ours, theirs, bound) in enumerate(zip(found, wanted, bounds, strict=True)):
        apart = float((ours - theirs).abs().max())
        assert apart <= bound, f"result {index}: {apart:.2e} apart, rounding explains {bound:.2e}"


def half_precision_bound(model: AdaptedModel, features: Tensor) -> float:
    """Return how far a model's probabilities may move by rounding of the encoder's (n, D) features.

    ``predict`` and the cache keep features in half precision. Another CPU, thread count or batch size moves a float32
    feature by some epsilons, and one that lies that close to a tie is rounded to the neighbouring half-precision value.
    The bound is the spread if every feature goes to a neighbour; in truth one in some thousands does.
    """
    kept = features.half()
    reference, spread = model.predict_features(kept), 0.0
    for seed in range(3):
        signs = torch.rand(kept.shape, generator=torch.Generator().manual_seed(seed)).round() * 2 - 1
        moved = model.predict_features((kept.float() * (1 + signs * torch.finfo(torch.half).eps)).half())
        for part in ("probabilities", "raw", "vac", "lac"):
            if (ours := getattr(reference, part)) is not None:
                spread = max(spread, float((getattr(moved, part) - ours).abs().max()))
    return spread


def feature_bound(encoder: ClipEncoder, pixels: Tensor) -> float:
    """Return how far float32 features of unit norm may be apart between batch sizes, thread counts and CPUs.

    Each of some thirty layers rounds as a perturbation of (n, ...) pixels by a few epsilons does.
    """
    images = pixels.float()
    return rounding_bounds(
        lambda seed: [encoder.encode_images(images if seed is None else perturbed(images, seed))], steps=30
    )[0]


class OtherRounding(TorchDispatchMode):
    """Sums are off by up to ``epsilons`` of their row's typical value, functions by up to one of their own value.

    By how much follows from the value's bits and the tensor's shape: the same operation repeated gives the same bits,
    and the same rows in a batch of another size do not, as with a library that picks its kernels by shape.
    """

    def __init__(self, epsilons: float):
        super().__init__()
        self.epsilons = epsilons

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        operation = func.overloadpacket
        if operation in SUMS or operation in FUNCTIONS:
            for tensor in result if isinstance(result, tuple | list) else (result,):
                # not in the shapes alone that an ONNX export traces
                if type(tensor) is Tensor and tensor.is_floating_point() and tensor.device.type == "cpu":
                    shift(tensor, self.epsilons if operation in SUMS else None)
        return result


def shift(tensor: Tensor, epsilons: float | None) -> None:
    """Move finite values but zeros in place: by up to so many epsilons of the row's typical value, or one of their own.

    A row's noise does not depend on its neighbours' values, and a value of few bits stays: it is exact, most likely.
    """
    if not tensor.numel():
        return
    wide = tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
    integer, mantissa = (torch.int32, 23) if wide.dtype == torch.float32 else (torch.int64, 52)
    bits = wide.contiguous().view(integer).long()
    shape = int.from_bytes(hashlib.sha256(str(tuple(tensor.shape)).encode()).digest()[:4], "little")
    noise = ((bits ^ shape) * -0x61C8864680B583EB >> 61).to(wide.dtype) / 4  # -1 ... 0.75
    noise = noise.where(bits & (1 << mantissa // 2) - 1 != 0, 0)
    size = wide.abs().where(wide.isfinite(), 0)
    if epsilons is not None and wide.ndim:
        typical = wide.where(wide.isfinite(), 0).square().mean(-1, keepdim=True).sqrt()
        size = epsilons * typical.where(wide != 0, 0)
    tensor.copy_(wide + torch.finfo(wide.dtype).eps * noise * size)
