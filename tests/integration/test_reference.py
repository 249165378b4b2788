"""The trainer against a plain torch program of the same method, for every option of METHOD.md section 6."""

import pytest
import torch
from factories.tasks import SMALL, random_task

from unimos_pipe.base.method_config import method_spec
from unimos_pipe.bench.reference import ReferenceRun
from unimos_pipe.methods.unimos.random_streams import RandomStreams
from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.methods.unimos.training_run import TrainingRun

PAPER = {  # METHOD.md section 6, row by row
    "similarity": {"heads.similarity": "cosine"},
    "training ensemble": {"loss.train_ensemble": "debiased"},
    "weight per row": {"loss.weight_per": "row"},
    "orthogonality": {"loss.ortho_form": "matrix"},
    "pseudo-labels": {"eval.pseudo_labels": "cluster"},
    "inference weight": {"eval.w_start": 0.3, "eval.w_end": 0.3},
    "no restarts": {"train.reset_probability": 0.0},
}
CASES = {"released code": {}, **PAPER, "all of them": {name: v for case in PAPER.values() for name, v in case.items()}}


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_twenty_steps_agree_with_the_plain_program(settings):
    """Five epochs of four steps in float64: probabilities to 1e-8, label arrays exactly.

    The rate is a third of the default: at a temperature of 100 rounding grows with the steps taken.
    """
    method = method_spec("full", SMALL | {"train.epochs": 5, "train.batch_size": 8, "train.lr": 1e-3} | settings)
    task = random_task(32, 40)
    trainer = Trainer([TrainingRun(task, method, RandomStreams(3, 32, 40, 8), 8, 4)])
    plain = ReferenceRun(task, method, RandomStreams(3, 32, 40, 8), 8, 4)
    for (epoch, records), wanted in zip(trainer.train(), plain.train(), strict=True):
        found = next(records).evaluation
        assert torch.allclose(found.probabilities, wanted.probabilities, rtol=0, atol=1e-8), epoch
        assert found.cluster_labels.equal(wanted.cluster_labels)
        assert found.pseudo_labels.equal(wanted.pseudo_labels)
    assert plain.taken == 20
    first = trainer.state(0)["label_prior"]
    assert torch.allclose(first, plain.prior, rtol=1e-8)
