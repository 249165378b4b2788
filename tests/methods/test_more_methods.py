"""Cross-modal probe, CLIP distillation and EnsV by hand; every method at the edges of what data can be."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from factories.tasks import random_task, small_method
from sklearn.linear_model import LogisticRegression

from unimos_pipe.methods import clip_distillation, cross_modal_probe, ensv, zero_shot
from unimos_pipe.methods.registry import METHODS
from unimos_pipe.methods.task import AdaptationTask, UnlabelledFeatures
from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.methods.unimos.training_run import create_run

TASK = random_task()
CLASSES = len(TASK.text_features)


def test_the_cross_modal_probe_has_the_prompts_as_rows():
    """Near scikit-learn's, as the plain probe is; a gradient entry of 1e-5 leaves 0.01 of a slope."""
    rows = torch.cat([TASK.source.features, TASK.text_features]).numpy()
    labels = torch.cat([TASK.source.labels, torch.arange(CLASSES)]).numpy()
    reference = LogisticRegression(C=10, max_iter=10_000, tol=1e-10).fit(rows, labels)
    model = cross_modal_probe.fit_model(TASK)
    np.testing.assert_allclose(model.weight.numpy(), reference.coef_.T, atol=0.01)


def test_the_cross_modal_probe_answers_a_class_without_source_rows():
    task = replace(TASK, source=TASK.source.subset(TASK.source.labels != 3))
    assert cross_modal_probe.fit(task).logits.isfinite().all()


def test_prompts_weigh_as_single_rows_beside_several_domains():
    origins = (torch.arange(40) >= 8).long()
    task = replace(TASK, source=replace(TASK.source, origins=origins))
    weights = np.concatenate([np.where(origins == 0, 40 / 16, 40 / 64), np.ones(CLASSES)])
    rows = torch.cat([TASK.source.features, TASK.text_features]).numpy()
    labels = torch.cat([TASK.source.labels, torch.arange(CLASSES)]).numpy()
    reference = LogisticRegression(C=10, max_iter=10_000, tol=1e-10).fit(rows, labels, weights)
    np.testing.assert_allclose(cross_modal_probe.fit_model(task).weight.numpy(), reference.coef_.T, atol=0.01)


def test_distillation_is_level_where_it_is_fitted():
    """The gradient of mean CE(softmax(z / 0.3), x W + b) + ||W||^2 / (2 C n), row by row."""
    model = clip_distillation.fit(TASK).model
    gradient = model.weight / (10 * 56)
    for row in TASK.target.features.tolist():
        logits = [
            100 / 0.3 * sum(a * b for a, b in zip(row, text, strict=True)) for text in TASK.text_features.tolist()
        ]
        wanted = [math.exp(value - max(logits)) for value in logits]
        found = model.logits(torch.tensor([row]).double()).softmax(-1)[0]
        error = found - torch.tensor([value / sum(wanted) for value in wanted])
        gradient = gradient + torch.outer(torch.tensor(row).double(), error) / 56
    assert gradient.abs().max() < 1e-5 + 1e-6  # the loop reads the rows in float32
    assert model.weight.abs().max() > 0.1


def test_the_score_is_the_agreement_with_the_ensemble():
    """Mean probabilities .6, .3, .1 and .2, .4, .4 (ties: the first): classes 0 and 1."""
    first = torch.tensor([[0.9, 0.05, 0.05], [0.1, 0.2, 0.7]]).log()
    second = torch.tensor([[0.3, 0.55, 0.15], [0.3, 0.6, 0.1]]).log()
    assert ensv.ensemble_scores([first, second]) == [0.5, 0.5]
    third = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]]).log()
    assert ensv.ensemble_scores([first, second, third]) == [0.5, 0.5, 1.0]


def test_ensv_is_the_candidate_of_the_highest_score():
    outputs = [candidate.fit(TASK) for candidate in ensv.CANDIDATES.values()]
    scores = ensv.ensemble_scores([output.logits for output in outputs])
    assert torch.equal(ensv.fit(TASK).logits, outputs[scores.index(max(scores))].logits)
    assert outputs[0].classes.equal(zero_shot.fit(TASK).classes)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "shape",
    [
        {"source": 5, "target": 56},
        {"source": 40, "target": 3},
        {"source": 40, "target": 2, "classes": 2},
        {"source": 2, "target": 30, "classes": 2},
        {"source": 60, "target": 40, "classes": 30, "dim": 8},
    ],
    ids=["1 row a class", "fewer rows than classes", "2 classes, 2 rows", "2 source rows", "30 classes"],
)
def test_every_method_works_at_the_edges(name, shape):
    task = random_task(**shape)
    logits = METHODS[name].fit(task).logits
    assert logits.shape == (len(task.target.features), len(task.text_features))
    assert not logits.isnan().any() and logits.max(-1).values.isfinite().all()


def duplicates(task: AdaptationTask) -> AdaptationTask:
    """One row of each class and one target row, repeated."""
    x, labels = task.source.features, task.source.labels
    first = torch.stack([x[(labels == label).nonzero()[0, 0]] for label in labels])
    target = task.target.features[:1].expand_as(task.target.features).clone()
    return replace(task, source=replace(task.source, features=first), target=UnlabelledFeatures(target))


def equal_rows(task: AdaptationTask) -> AdaptationTask:
    """One row for all images of both domains."""
    rows = task.source.features[:1]
    source = replace(task.source, features=rows.expand_as(task.source.features).clone())
    return replace(task, source=source, target=UnlabelledFeatures(rows.expand_as(task.target.features).clone()))


ODD_TASKS = {
    "duplicates": duplicates(TASK),
    "equal rows": equal_rows(TASK),
    "equal prompts": replace(TASK, text_features=TASK.text_features[:1].expand_as(TASK.text_features).clone()),
    "a class without rows": replace(TASK, source=TASK.source.subset(TASK.source.labels != 3)),
    "D above n": random_task(source=15, target=12, dim=200),
}


@pytest.mark.parametrize("odd", ODD_TASKS)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_answers_odd_tasks(name, odd):
    task = ODD_TASKS[odd]
    logits = METHODS[name].fit(task).logits
    assert logits.shape == (len(task.target.features), CLASSES)
    assert not logits.isnan().any() and logits.max(-1).values.isfinite().all()


@pytest.mark.parametrize("odd", ODD_TASKS)
def test_unimos_answers_odd_tasks(odd):
    trainer = Trainer([create_run(ODD_TASKS[odd], small_method(train__epochs=2, train__batch_size=8), 0)])
    records = [record for _, epoch in trainer.train() for record in epoch]
    assert not trainer.failures
    assert all(record.evaluation.probabilities.isfinite().all() for record in records)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_method_works_with_a_thousand_classes(name):
    logits = METHODS[name].fit(random_task(source=2000, target=1500, dim=64, classes=1000, dtype=torch.float32)).logits
    assert logits.shape == (1500, 1000) and not logits.isnan().any()


@pytest.mark.parametrize("name", METHODS)
def test_float32_predicts_as_float64_does(name):
    """At most 1 of 56 rows may differ, where the two most probable classes are equal to rounding."""
    task, rows = TASK, TASK.target.features
    single = replace(
        task,
        source=replace(task.source, features=task.source.features.float()),
        target=UnlabelledFeatures(rows.float()),
        text_features=task.text_features.float(),
    )
    assert (METHODS[name].fit(single).classes != METHODS[name].fit(task).classes).sum() <= 1
