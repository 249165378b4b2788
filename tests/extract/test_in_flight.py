"""On a GPU the encoder does not wait for copies of features; tested without a GPU, with fake devices."""

from types import SimpleNamespace

import pytest
import torch
from factories.tasks import TINY
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from unimos_pipe.extract.encoder import ClipEncoder
from unimos_pipe.extract.write_shards import overlap_copies

CUDA = torch.device("cuda")


class Copies(TorchDispatchMode):
    """Puts every copy from the GPU into a log: ``copy``, or ``blocking copy`` where the CPU waits for it."""

    def __init__(self, log: list[str]):
        super().__init__()
        self.log = log

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        on_gpu = [value for value in args if isinstance(value, torch.Tensor) and value.device.type == "cuda"]
        if func is torch.ops.aten._local_scalar_dense.default:
            self.log.append("blocking copy")
        elif on_gpu and isinstance(output, torch.Tensor) and output.device.type == "cpu":
            self.log.append("copy" if kwargs.get("non_blocking") else "blocking copy")
        return output


@pytest.fixture
def log(monkeypatch) -> list[str]:
    """Record of calls, in order, with a fake driver."""
    calls: list[str] = []
    event = SimpleNamespace(synchronize=lambda: calls.append("wait"))
    stream = SimpleNamespace(record_event=lambda: calls.append("record") or event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    return calls


@pytest.fixture
def encoder() -> ClipEncoder:
    """The tiny encoder, its tensors on a GPU that is not there."""
    encoder, mode = ClipEncoder(TINY, torch.device("cpu")), FakeTensorMode()
    with mode:
        for module in encoder.model.modules():
            for tensors in (module._parameters, module._buffers):
                tensors.update({name: moved(mode, part) for name, part in tensors.items() if part is not None})
        encoder.device, encoder.value_range = CUDA, tuple(moved(mode, part) for part in encoder.value_range)
        yield encoder


def moved(mode: FakeTensorMode, tensor: torch.Tensor) -> torch.Tensor:
    return mode.from_tensor(tensor).to(CUDA)


def batches(log: list[str], count: int):
    """Batches of 3 images; the second one has none that can be read."""
    for number in range(count):
        log.append(f"batch {number}")
        good = [] if number == 1 else [0, 1, 2]
        yield good, torch.empty(len(good), 64, 64, 3, dtype=torch.uint8), []


def test_a_batch_comes_back_while_the_next_three_are_encoded(encoder, log):
    """One copy for each batch, waited for once three more batches have started; the last ones at the end."""
    shapes = []
    with Copies(log):
        for good, features, _ in overlap_copies(batches(log, 5), encoder):
            log.append("taken")
            assert features is None or features.device.type == "cpu"
            shapes.append(features.shape if good else None)
    assert shapes == [(3, 128), None, (3, 128), (3, 128), (3, 128)]
    assert log == [
        *("batch 0", "copy", "record"),
        "batch 1",
        *("batch 2", "copy", "record"),
        *("batch 3", "copy", "record", "wait", "taken"),
        *("batch 4", "copy", "record", "taken"),
        *("wait", "taken") * 3,
    ]


def test_a_batch_on_the_cpu_is_done_before_the_next_one_is_read(log):
    """So that what was encoded before a fault is kept."""
    stand = SimpleNamespace(device=torch.device("cpu"), start_encoding=lambda pixels: lambda: pixels)
    for _ in overlap_copies(batches(log, 2), stand):
        log.append("taken")
    assert log == ["batch 0", "taken", "batch 1", "taken"]
