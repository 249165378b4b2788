"""Which device the arithmetic runs on."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence

import torch

from unimos_pipe.base.errors import InputError, join_names

HOST = "cpu"
AUTO_PRECISION = {"cpu with bf16": "bf16", "cpu": "fp32", "cuda": "fp32", "mps": "fp32"}  # where evidence says so


def pick_device(name: str) -> torch.device:
    """``auto`` -> the GPU where there is one, else the CPU; other names are checked against this machine.

    Raises:
        InputError: torch cannot use the named device here; lists those it can.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if available["cuda"] else "cpu")
    if not available[name]:
        usable = join_names(key for key, there in available.items() if there)
        raise InputError(f"--device {name}", expected=f"a device that torch can use here ({usable})", got=name)
    return torch.device(name)


def copy_to_cpu_async(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Bring a tensor to the CPU; the function given back waits for it and returns it.

    From CUDA it goes into page-locked memory, behind what the device computes, so that nothing waits before the
    function is called.
    """
    if tensor.device.type != "cuda":
        return tensor.cpu
    cpu_tensor = tensor.to("cpu", non_blocking=True)  # torch locks the pages of what it makes like this
    copy_finished = torch.cuda.current_stream(tensor.device).record_event()

    def wait() -> torch.Tensor:
        copy_finished.synchronize()
        return cpu_tensor

    return wait


def count_usable_cores() -> int:
    """CPU cores this process may use, where the system says so; else all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_has_bf16() -> bool:
    """Whether this machine's CPU multiplies bf16 matrices by instructions of its own: AVX512-BF16 or AMX."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def precision_on_device(name: str, device: torch.device) -> str:
    """What a ``train.precision`` means on a device of this machine: ``auto`` by a fixed table, all else itself."""
    if name != "auto":
        return name
    return AUTO_PRECISION["cpu with bf16" if device.type == "cpu" and cpu_has_bf16() else device.type]


def gather_to_cpu(groups: Sequence[Mapping[str, torch.Tensor]]) -> list[dict[str, torch.Tensor]]:
    """Small tensors on the CPU, brought there by one copy: each copy from a GPU waits for all work sent off before."""
    tensors = [tensor for group in groups for tensor in group.values()]
    if all(tensor.device.type == HOST for tensor in tensors):
        return [dict(group) for group in groups]
    joined = torch.cat([tensor.reshape(-1).view(torch.uint8) for tensor in tensors]).cpu()
    parts = iter(joined.split([tensor.numel() * tensor.element_size() for tensor in tensors]))
    return [
        {name: next(parts).clone().view(tensor.dtype).view(tensor.shape) for name, tensor in group.items()}
        for group in groups
    ]
