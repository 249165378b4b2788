"""A CUDA device that is not there: tensors without values, and a count of what would be copied to the CPU."""

import contextlib

import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Calls(TorchDispatchMode):
    """Counts operators, and names those that bring something from the GPU to the CPU."""

    def __init__(self):
        super().__init__()
        self.operators, self.copies = 0, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        self.operators += func.namespace == "aten"
        devices = [
            {leaf.device.type for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)}
            for tree in ((args, kwargs), found)
        ]
        if "cuda" in devices[0] and "cpu" in devices[1]:
            self.copies.append(str(func))
        return found


@contextlib.contextmanager
def pretended_gpu(monkeypatch):
    """Within it, "cuda" is a device; reading a value is an error. Yields the :class:`Calls` made within.

    Torch's engine of gradients asks for a real GPU, so gradients are tensors of the right shape and no more.
    """
    monkeypatch.setattr(torch.autograd, "grad", lambda value, leaves, **how: [torch.empty_like(x) for x in leaves])
    with FakeTensorMode(allow_non_fake_inputs=True), Calls() as calls:
        yield calls


class RealDraws:
    """A run's draws, made on the CPU as ever."""

    def __init__(self, draws):
        self.draws = draws

    def __getattr__(self, name):
        method = getattr(self.draws, name)

        def call(*args):
            with unset_fake_temporarily():
                return method(*args)

        return call


def there(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor like this one on the pretended GPU."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")
