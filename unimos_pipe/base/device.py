"""Which device the arithmetic runs on."""

import os

import torch

from unimos_pipe.base.errors import UserError, listing


def pick_device(name: str) -> torch.device:
    """``auto`` -> the GPU where there is one, else the CPU; other names are checked against this machine.

    Raises:
        UserError: torch cannot use the named device here; lists those it can.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if available["cuda"] else "cpu")
    if not available[name]:
        have = listing(key for key, there in available.items() if there)
        raise UserError(f"--device {name}", expected=f"a device that torch can use here ({have})", got=name)
    return torch.device(name)


def usable_cores() -> int:
    """CPU cores this process may use, where the system says so; else all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
