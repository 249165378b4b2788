"""Stage two on a CUDA device that is not there: no step waits for it, and an evaluation does once for a whole stack."""

import pytest
import torch
from factories.tasks import random_task, small_method
from fake_cuda import RealDraws, pretended_gpu, there

from unimos_pipe.base.device import gather_to_cpu
from unimos_pipe.evaluation.validators import validator_tensors
from unimos_pipe.methods.task import AdaptationTask, LabelledFeatures, UnlabelledFeatures
from unimos_pipe.methods.unimos.random_streams import RandomStreams
from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.methods.unimos.training_run import TrainingRun

PAPER = {"heads__similarity": "cosine", "loss__ortho_form": "matrix", "loss__weight_per": "row", "loss__mcc": 0.1}


def trainer_there(runs: int, settings) -> Trainer:
    made = random_task(40, 48, dtype=torch.float32)
    task = AdaptationTask(
        LabelledFeatures(there(made.source.features), there(made.source.labels)),
        UnlabelledFeatures(there(made.target.features)),
        there(made.text_features),
    )
    method = small_method(train__batch_size=8, **settings)
    draws = [RealDraws(RandomStreams(seed, 40, 48, 8)) for seed in range(runs)]
    return Trainer([TrainingRun(task, method, own, 8, 5) for own in draws], use_cuda_graphs=False)


@pytest.mark.parametrize("settings", [{}, PAPER, {"train__precision": "bf16"}], ids=["released", "paper", "bf16"])
def test_an_epoch_sends_its_steps_off_and_an_evaluation_waits_once(settings, monkeypatch):
    with pretended_gpu(monkeypatch) as calls:
        trainer = trainer_there(3, settings)
        calls.copies.clear()
        means = trainer._train_epoch(0)
        assert (means.device.type, means.shape) == ("cuda", (3, 8))
        assert calls.copies == []
        views = [trainer._evaluate_run(index, 1) for index in range(3)]
        figures = [trainer._measure_run(view, means) for view in views]
        figures += [validator_tensors(view.evaluation.probabilities, view.evaluation.bottleneck) for view in views]
        assert calls.copies == []
        host = gather_to_cpu(figures)
        assert {tensor.device.type for group in host for tensor in group.values()} == {"cpu"}
        assert calls.copies == ["aten._to_copy.default"]


def test_a_step_takes_as_many_operators_in_a_stack_as_alone(monkeypatch):
    """Gradients of losses, about a hundred operators more, are not counted."""
    counts = []
    for runs in (1, 6):
        with pretended_gpu(monkeypatch) as calls:
            trainer = trainer_there(runs, {})
            block = trainer.sampler.sample(0, 0)
            trainer._step(runs, block.step(0))
            calls.operators = 0
            trainer._step(runs, block.step(1))
            counts.append(calls.operators)
    lone, stack = counts
    assert lone <= stack <= lone + 8 <= 320, counts  # what is a view of one run is a copy of several


def test_figures_reach_the_cpu_as_they_were():
    figures = [
        {"flag": torch.tensor(True), "gram": torch.rand(3, 2, dtype=torch.float64)},
        {"mean": torch.tensor(0.25), "answers": torch.arange(6).view(2, 3)},
    ]
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:  # as from another device
        patch.setattr("unimos_pipe.base.device.HOST", "nowhere")
        packed = gather_to_cpu(figures)
    for ours, group in zip(packed, figures, strict=True):
        assert list(ours) == list(group)
        assert all(ours[name].equal(tensor) and ours[name].dtype == tensor.dtype for name, tensor in group.items())
