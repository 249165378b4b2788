"""CUDA against the CPU. Run by ``bash tests/gpu.sh`` where there is a GPU; elsewhere left out."""

import json
from dataclasses import replace

import pytest
import torch
from factories.tasks import TINY, random_task, small_method
from golden_run import step_values

from unimos_pipe.base.device import pick_device
from unimos_pipe.base.method_config import method_spec
from unimos_pipe.extract.encoder import ClipEncoder
from unimos_pipe.methods.task import AdaptationTask
from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.methods.unimos.training_run import create_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU: bash tests/gpu.sh"),
]


def on(task: AdaptationTask, device: str) -> AdaptationTask:
    source = replace(task.source, features=task.source.features.to(device), labels=task.source.labels.to(device))
    target = replace(task.target, features=task.target.features.to(device))
    return replace(task, source=source, target=target, text_features=task.text_features.to(device))


def mixed_runs(device: str, dtype=torch.float32, **settings):
    """Four runs of 3, 5, 5 and 4 steps an epoch, with losses of their own."""
    sizes = [(24, 56, 1), (40, 41, 2), (40, 41, 2), (36, 33, 3)]
    variants = ["full", "no-im", "fixed-weight", "no-discriminator"]
    settings = {"train__epochs": 4, "train__batch_size": 8, **settings}
    return [
        create_run(on(random_task(*rows, seed=seed, dtype=dtype), device), small_method(variant, **settings), place)
        for place, ((*rows, seed), variant) in enumerate(zip(sizes, variants, strict=True))
    ]


def finished(trainer: Trainer) -> Trainer:
    for _, records in trainer.train():
        list(records)
    assert trainer.failures == {}
    return trainer


def test_losses_of_twenty_steps_are_those_of_the_cpu(monkeypatch):
    """Default heads, 65 classes of 512 dimensions, float32, at a third of the rate, above which rounding grows fast."""
    method = method_spec("full", {"train.epochs": 1, "train.max_steps": 20, "train.lr": 1e-3})
    task = random_task(1000, 1100, dim=512, classes=65, dtype=torch.float32)
    values = step_values(monkeypatch)
    found = {}
    for device in ("cpu", "cuda"):
        values.clear()
        finished(Trainer([create_run(on(task, device), method, 0)], use_cuda_graphs=False))
        found[device] = torch.stack([step.cpu() for step in values])
    assert found["cpu"].shape == (20, 8)
    apart = (found["cuda"] - found["cpu"]).abs() / found["cpu"].abs().clamp_min(1e-2)
    assert apart.max() < 1e-4, apart.max(0).values


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_captured_step_is_the_step(precision):
    states = [
        finished(Trainer(mixed_runs("cuda", train__precision=precision), use_cuda_graphs=captured)).state_dict()
        for captured in (True, False, True)
    ]
    for name, tensor in states[0].items():
        assert tensor.equal(states[2][name]), f"{name}: the same seed gave something else"
        assert torch.allclose(tensor.double(), states[1][name].double(), rtol=1e-5, atol=1e-7), name


def test_a_stack_equals_lone_runs():
    stack = finished(Trainer(mixed_runs("cuda", torch.float64)))
    for index in range(4):
        lone = finished(Trainer([mixed_runs("cuda", torch.float64)[index]]))
        for name, tensor in lone.run_state(0).items():
            if name != "bottleneck_linear.bias":  # BatchNorm cancels its gradient
                assert torch.allclose(stack.run_state(index)[name], tensor, rtol=1e-5, atol=1e-7), name


def test_a_state_resumes():
    whole, first, second = (Trainer(mixed_runs("cuda")) for _ in range(3))
    finished(whole)
    for epoch, records in first.train():
        list(records)
        if epoch == 1:
            break
    second.load_state_dict(first.state_dict())
    for _, records in second.train(after_epoch=1):
        list(records)
    for name, tensor in whole.state_dict().items():
        assert torch.allclose(tensor.double(), second.state_dict()[name].double(), rtol=1e-5, atol=1e-7), name


@pytest.mark.parametrize("captured", [True, False])
def test_no_step_waits_for_the_device(captured):
    trainer = Trainer(mixed_runs("cuda"), use_cuda_graphs=captured)
    list(trainer._evaluate_runs(-1, None, lambda view: {}))
    trainer._train_epoch(0)  # the first one captures
    torch.cuda.set_sync_debug_mode("error")
    try:
        means = trainer._train_epoch(1)  # raises where something waits
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert means.isfinite().all()


def test_half_precision_features_are_those_of_the_cpu():
    pixels = torch.randint(256, (32, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    cpu = ClipEncoder(TINY, pick_device("cpu"))
    gpu = ClipEncoder(replace(TINY, precision="fp16"), pick_device("cuda"))
    cosines = (cpu.encode_images(pixels) * gpu.encode_images(pixels)).sum(-1)
    assert cosines.min() > 0.9995


def test_features_come_back_while_the_gpu_works_on():
    pixels = torch.randint(256, (32, 64, 64, 3), dtype=torch.uint8).pin_memory()
    encoder = ClipEncoder(TINY, pick_device("cuda"))
    features = encoder.encode_images(pixels)
    torch.cuda.set_sync_debug_mode("error")
    try:
        waiting = [encoder.start_encoding(pixels) for _ in range(3)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for wait in waiting:
        assert wait().is_pinned() and torch.allclose(wait(), features, atol=1e-5)


def test_both_stages_on_the_gpu(cli, tmp_path):
    """The icons, as README.md's demo has them: accuracy within a percentage point of the CPU's."""
    cache, runs = tmp_path / "cache", tmp_path / "runs"
    assert cli("extract", "--dataset", "icons", "--all", "--cache", cache, "--device", "cuda").code == 0
    found = {}
    for device in ("cuda", "cpu"):
        options = "--src", "line", "--tgt", "sketch", "--dataset", "icons", "--cache", cache
        answer = cli("adapt", *options, "--device", device, "--out", runs / device)
        assert answer.code == 0, answer.err
        result = json.loads((runs / device / "result.json").read_text())
        found[device] = result["accuracy"]["last"]["accuracy"]
    assert abs(found["cuda"] - found["cpu"]) < 0.01, found
