"""The variant fused-teacher: one text is replaced, everywhere and nowhere else; the prompts still answer zero-shot."""

from dataclasses import replace

import pytest
import torch
from factories.tasks import random_task, small_method
from rounding import assert_within, perturbed_task, rounding_bounds

from unimos_pipe.cache.encoder_identity import EncoderIdentity
from unimos_pipe.evaluation.metrics import score_zero_shot
from unimos_pipe.methods import fused, source_probe
from unimos_pipe.methods.task import HeldOutLabels, PairData, UnlabelledFeatures
from unimos_pipe.methods.unimos import text_features as text_module
from unimos_pipe.methods.unimos.pseudo_labels import teacher_logits
from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.methods.unimos.training_run import create_run

pytestmark = pytest.mark.numerical
PLAIN = small_method(train__epochs=3, train__batch_size=8)
METHOD = small_method("fused-teacher", train__epochs=3, train__batch_size=8)


def fused_text(task):
    return fused.fused_text_features(task, source_probe.fit_probe(task, intercept=False))


def probabilities(trainer):
    """Every epoch's probabilities, by run."""
    found = {}
    for _, records in trainer.train():
        for record in records:
            found.setdefault(record.run, []).append(record.evaluation.probabilities)
    return [torch.stack(found[run]) for run in sorted(found)]


def test_it_is_unimos_on_another_text():
    """The run on the prompts with the variant is the paper's run on a task whose prompts are the fused text."""
    task = random_task()
    ours = Trainer([create_run(task, METHOD, 0)])
    wanted = Trainer([create_run(replace(task, text_features=fused_text(task)), PLAIN, 0)])
    (found,), (same,) = probabilities(ours), probabilities(wanted)
    assert torch.equal(found, same)
    assert torch.equal(ours.model_state(0)["text_features"], fused_text(task))
    assert torch.equal(Trainer([create_run(task, PLAIN, 0)]).model_state(0)["text_features"], task.text_features)


def test_the_teacher_before_training_is_the_fused_text():
    task = random_task()
    _, records = next(Trainer([create_run(task, METHOD, 0)]).train())
    record = next(records)
    wanted = teacher_logits(task.target.features, fused_text(task), 100.0).argmax(-1)
    assert torch.equal(record.evaluation.text_predictions, wanted) and torch.equal(record.text, fused_text(task))


def test_a_stack_keeps_each_runs_text_and_fits_a_probe_per_source(monkeypatch):
    """Two targets of one source, one of them also as the paper's run; equal rows with other labels; a longer run."""
    first = random_task()
    second = replace(first, target=UnlabelledFeatures(random_task(seed=1).target.features, "another"))
    third = replace(first, source=replace(first.source, labels=(first.source.labels + 1) % 5))
    fourth = random_task(source=64, target=72, seed=2)  # comes first in the stack
    tasks, methods = [first, second, first, third, fourth], [METHOD, METHOD, PLAIN, METHOD, METHOD]
    alone = [probabilities(Trainer([create_run(*run, 0)]))[0] for run in zip(tasks, methods, strict=True)]
    fitted, real = [], source_probe.fit_probe
    monkeypatch.setattr(source_probe, "fit_probe", lambda *a, **k: fitted.append(a) or real(*a, **k))
    stack = Trainer([create_run(*run, 0) for run in zip(tasks, methods, strict=True)])
    assert len(fitted) == 3
    wanted = [fused_text(first), fused_text(second), first.text_features, fused_text(third), fused_text(fourth)]
    for run, text in enumerate(wanted):
        assert torch.equal(stack.model_state(run)["text_features"], text)

    def stacked(seed: int | None) -> list[torch.Tensor]:
        own = tasks if seed is None else [perturbed_task(task, seed) for task in tasks]
        return probabilities(Trainer([create_run(*run, 0) for run in zip(own, methods, strict=True)]))

    steps = 3 * 64 // 8  # of the longest run; each rounds anew
    assert_within(probabilities(stack), alone, rounding_bounds(stacked, steps))


def test_held_out_source_rows_stay_out_of_the_probe():
    task = random_task()
    held = small_method("fused-teacher", train__epochs=1, train__batch_size=8, train__source_holdout=0.25)
    run = create_run(task, held, 0)
    text = Trainer([run]).model_state(0)["text_features"]
    assert len(run.task.source.labels) == 30
    assert torch.equal(text, fused_text(run.task)) and not torch.equal(text, fused_text(task))


def test_zero_shot_stays_the_prompts_own():
    task = random_task()
    labels = teacher_logits(task.target.features, task.text_features, 100.0).argmax(-1)
    wrong = (fused_text(task) @ task.target.features.mT).mT.argmax(-1) != labels
    assert wrong.any()  # the fused text answers otherwise
    held_out = HeldOutLabels(labels.numpy(), tuple("abcde"))
    data = PairData(task, held_out, ("x",) * len(labels), EncoderIdentity(*"abcde"), {}, [])
    assert score_zero_shot(data).accuracy == 1.0


def test_the_prompts_text_asks_for_no_probe(monkeypatch):
    monkeypatch.setattr(text_module, "_fused", lambda *_: pytest.fail("a probe was fitted"))
    trainer = Trainer([create_run(random_task(), PLAIN, 0)])
    assert trainer.text[0].equal(random_task().text_features)
