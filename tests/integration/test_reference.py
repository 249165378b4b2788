"""The trainer against a plain torch program of the same method, for every option of METHOD.md section 6."""

import pytest
import torch
from factories.tasks import SMALL, random_task
from rounding import assert_within, perturbed_task, rounding_bounds

from unimos_pipe.base.method_config import method_spec
from unimos_pipe.bench.reference import ReferenceRun
from unimos_pipe.methods.unimos.random_streams import RandomStreams
from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.methods.unimos.training_run import TrainingRun

pytestmark = pytest.mark.numerical
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


STEPS = 20


def plain_run(task, method) -> ReferenceRun:
    return ReferenceRun(task, method, RandomStreams(3, 32, 40, 8), 8, 4)


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_twenty_steps_agree_with_the_plain_program(settings):
    """Five epochs of four steps in float64: probabilities to the rounding of the steps taken, label arrays exactly.

    Rounding grows with the steps, at a temperature of 100: the reference program itself says by how much, run on
    features that are off by 1e-15. The rate is a tenth of the default, so that the bound stays far below the effect of
    a mistake.
    """
    method = method_spec("full", SMALL | {"train.epochs": 5, "train.batch_size": 8, "train.lr": 3e-4} | settings)
    task = random_task(32, 40)

    def probabilities(seed: int | None) -> list[torch.Tensor]:
        own = task if seed is None else perturbed_task(task, seed)
        return [evaluation.probabilities for evaluation in plain_run(own, method).train()]

    bounds = rounding_bounds(probabilities, STEPS)
    trainer = Trainer([TrainingRun(task, method, RandomStreams(3, 32, 40, 8), 8, 4)])
    plain = plain_run(task, method)
    for (_, records), wanted, bound in zip(trainer.train(), plain.train(), bounds, strict=True):
        found = next(records).evaluation
        assert_within([found.probabilities], [wanted.probabilities], [bound])
        assert found.cluster_labels.equal(wanted.cluster_labels)
        assert found.pseudo_labels.equal(wanted.pseudo_labels)
    assert plain.steps_taken == STEPS
    first = trainer.run_state(0)["label_prior"]
    assert torch.allclose(first, plain.prior, rtol=0, atol=max(bounds))
