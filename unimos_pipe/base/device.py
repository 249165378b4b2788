"""Selection of devices and precisions."""

import platform
from collections.abc import Callable, Mapping, Sequence

import torch

from unimos_pipe.base.errors import Argument, InputError, join_names

HOST = "cpu"
AUTO_PRECISION = {"cpu with bf16": "bf16", "cpu": "fp32", "cuda": "fp32", "mps": "fp32"}  # where evidence says so


def pick_device(name: str) -> torch.device:
    """Return a torch device; ``auto`` takes the GPU if there is one, else the CPU.

    Raises:
        InputError: torch cannot use the named device here; lists those it can.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if available["cuda"] else "cpu")
    if not available[name]:
        usable = join_names(key for key, there in available.items() if there)
        raise InputError(
            (Argument("device"), f" {name}"), expected=f"a device that torch can use here ({usable})", got=name
        )
    return torch.device(name)


def copy_to_cpu_async(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Start a copy of a tensor to the CPU and return a function that waits for it and returns it.

    A copy from CUDA goes into page-locked memory and is queued on the current stream. Nothing waits before the
    returned function is called.
    """
    if tensor.device.type != "cuda":
        return tensor.cpu
    cpu_tensor = tensor.to("cpu", non_blocking=True)  # torch allocates page-locked memory for this copy
    copy_finished = torch.cuda.current_stream(tensor.device).record_event()

    def wait() -> torch.Tensor:
        copy_finished.synchronize()
        return cpu_tensor

    return wait


def cpu_has_bf16() -> bool:
    """Return True if the CPU has instructions for bf16 matrix products (AVX512-BF16 or AMX)."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def precision_on_device(name: str, device: torch.device) -> str:
    """Resolve a ``train.precision`` on a device: ``auto`` by :data:`AUTO_PRECISION`, other names unchanged."""
    if name != "auto":
        return name
    return AUTO_PRECISION["cpu with bf16" if device.type == "cpu" and cpu_has_bf16() else device.type]


def gather_to_cpu(groups: Sequence[Mapping[str, torch.Tensor]]) -> list[dict[str, torch.Tensor]]:
    """Copy groups of small tensors to the CPU in one transfer.

    Each transfer from a GPU waits for all queued work, so one transfer is faster than many.
    """
    tensors = [tensor for group in groups for tensor in group.values()]
    if all(tensor.device.type == HOST for tensor in tensors):
        return [dict(group) for group in groups]
    joined = torch.cat([tensor.reshape(-1).view(torch.uint8) for tensor in tensors]).cpu()
    parts = iter(joined.split([tensor.numel() * tensor.element_size() for tensor in tensors]))
    return [
        {name: next(parts).clone().view(tensor.dtype).view(tensor.shape) for name, tensor in group.items()}
        for group in groups
    ]
