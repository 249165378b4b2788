"""Logistic regression in torch against scikit-learn; stacked fusion against loops over rows and folds."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from factories.tasks import random_task
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from unimos_pipe.base.errors import InputError
from unimos_pipe.methods import logistic_regression, stacked
from unimos_pipe.methods.logistic_regression import C, assign_folds, cross_fit, fit_logistic_regression
from unimos_pipe.methods.task import LabelledFeatures

TASK = random_task()
SOURCE, CLASSES = TASK.source, len(TASK.text_features)


def penalised_loss(source: LabelledFeatures, weight: np.ndarray, bias: np.ndarray) -> float:
    """The module's objective, row by row; ``weight`` (D, K)."""
    total = 0.0
    for row, label in zip(source.features.tolist(), source.labels.tolist(), strict=True):
        logits = [float(np.dot(row, weight[:, k]) + bias[k]) for k in range(len(bias))]
        total += math.log(sum(math.exp(value) for value in logits)) - logits[label]
    return total / len(source.labels) + float((weight**2).sum()) / (2 * C * len(source.labels))


@pytest.mark.parametrize("shape", [{"source": 40, "dim": 16}, {"source": 12, "dim": 16}], ids=["tall", "wide"])
def test_it_is_as_low_as_scikit_learn_and_near_it(shape):
    """The loss is 1/(C n)-strongly convex in the slopes, so that a gradient entry of 1e-4 may leave 0.04 each."""
    source = random_task(**shape).source
    model = fit_logistic_regression(source, CLASSES)
    reference = LogisticRegression(C=C, max_iter=10_000, tol=1e-10).fit(source.features.numpy(), source.labels.numpy())
    least = penalised_loss(source, reference.coef_.T, reference.intercept_)
    assert penalised_loss(source, model.weight.numpy(), model.bias.numpy()) == pytest.approx(least, abs=1e-5)
    np.testing.assert_allclose(model.weight.numpy(), reference.coef_.T, atol=0.02)


def test_coordinates_have_unit_variance_and_leave_predictions_as_they_are():
    """Rows have the penalised variance one; slopes and bias in the coordinates predict as the model of x does."""
    features = SOURCE.features + 3
    coordinates = logistic_regression.Coordinates.of_rows(features, CLASSES)
    rows = coordinates.of(features)
    variance = (rows.square().mean(0) + CLASSES / (C * 40) / coordinates.scales.squeeze().square()).numpy()
    np.testing.assert_allclose(variance, 1, rtol=1e-9)
    parameters = torch.randn(17, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = coordinates.model(parameters, torch.tensor([0, 2, 4]), CLASSES)
    wanted = rows @ parameters[:-1] + parameters[-1]
    torch.testing.assert_close(model.logits(features)[:, [0, 2, 4]], wanted, atol=1e-9, rtol=0)
    norm = (parameters[:-1] / coordinates.scales).square().sum()
    assert float(model.weight.square().sum()) == pytest.approx(float(norm)) and model.bias[1] == -math.inf


def test_every_domain_of_a_source_counts_the_same():
    origins = (torch.arange(40) >= 8).long()
    copied = torch.cat([torch.arange(8).repeat_interleave(4), torch.arange(8, 40)])
    weighted = fit_logistic_regression(replace(SOURCE, origins=origins), CLASSES)
    x, y = SOURCE.features[copied].numpy(), SOURCE.labels[copied].numpy()
    reference = LogisticRegression(C=C, max_iter=10_000, tol=1e-10).fit(x, y, np.full(64, 40 / 64))
    np.testing.assert_allclose(weighted.weight.numpy(), reference.coef_.T, atol=0.02)
    assert (weighted.weight - fit_logistic_regression(SOURCE, CLASSES).weight).abs().max() > 0.1


def test_one_class_is_too_few():
    one = LabelledFeatures(SOURCE.features[:4], torch.zeros(4, dtype=torch.int64))
    with pytest.raises(InputError) as error:
        fit_logistic_regression(one, CLASSES)
    assert str(error.value) == "labels to fit a probe on: expected at least 2 classes, got 1"


def test_folds_share_each_class_and_leave_single_rows_in():
    labels = torch.tensor([0] * 10 + [1] * 7 + [2] * 2 + [3])
    folds = assign_folds(labels)
    assert folds[-1] == -1 and (folds[:-1] >= 0).all()
    for k, counts in ((0, [2] * 5), (1, [1, 1, 1, 2, 2]), (2, [0, 0, 0, 1, 1])):
        assert sorted(torch.bincount(folds[labels == k], minlength=5).tolist()) == counts
    assert torch.equal(assign_folds(labels), folds)


def test_cross_fitting_scores_each_row_by_a_fit_without_its_fold():
    found = cross_fit(SOURCE, CLASSES)
    folds = assign_folds(SOURCE.labels)
    assert torch.equal(found.rows, torch.arange(40))
    for fold in range(5):
        held = folds == fold
        cold = fit_logistic_regression(SOURCE.subset(~held), CLASSES)
        wanted = cold.logits(SOURCE.features[held]).softmax(-1)
        torch.testing.assert_close(found.logits[held].softmax(-1), wanted, atol=2e-3, rtol=0)  # each stops at 1e-4
    whole = fit_logistic_regression(SOURCE, CLASSES)
    torch.testing.assert_close(found.model.weight, whole.weight, atol=0.02, rtol=0)


def test_many_rows_are_sampled_by_class_for_the_folds(monkeypatch):
    monkeypatch.setattr(logistic_regression, "MAX_CROSS_FIT_ROWS", 20)
    found = cross_fit(SOURCE, CLASSES)
    assert len(found.rows) == 20 and torch.bincount(SOURCE.labels[found.rows]).tolist() == [4] * 5
    torch.testing.assert_close(found.model.weight, fit_logistic_regression(SOURCE, CLASSES).weight, atol=0.02, rtol=0)


def test_the_weights_are_the_least_of_the_smoothed_loss():
    found = stacked.fit_stacked(TASK)
    text = (100 * SOURCE.features @ TASK.text_features.mT).tolist()
    probe = found.probe.logits.tolist()

    def loss(factors: np.ndarray) -> float:
        total = 0.0
        for z, p, label in zip(text, probe, SOURCE.labels.tolist(), strict=True):
            logits = [factors[0] * z[k] + factors[1] * p[k] for k in range(CLASSES)]
            normaliser = math.log(sum(math.exp(value - max(logits)) for value in logits)) + max(logits)
            for k in range(CLASSES):
                target = 40 / 41 * (k == label) + 1 / 41 / CLASSES
                total += target * (normaliser - logits[k])
        return total / len(text)

    reference = minimize(loss, [1.0, 0.1], method="L-BFGS-B", bounds=[(0, None)] * 2, options={"ftol": 1e-15})
    assert loss(np.array([found.text_weight, found.probe_weight])) <= reference.fun + 1e-8
    assert [found.text_weight, found.probe_weight] == pytest.approx(reference.x, rel=1e-2)


def test_its_answer_is_the_weighted_sum():
    found = stacked.fit_stacked(TASK)
    target = TASK.target.features
    wanted = found.text_weight * 100 * target @ TASK.text_features.mT + found.probe_weight * found.probe.model.logits(
        target
    )
    torch.testing.assert_close(stacked.fit(TASK).logits, wanted, atol=1e-9, rtol=0)


def test_a_useless_part_gets_no_weight():
    labels = torch.arange(60) % 3
    right = torch.nn.functional.one_hot(labels, 3).double()
    wrong = -right
    a, b = stacked.stacking_weights(torch.stack([wrong, right], -1), labels, torch.ones(60, dtype=torch.float64))
    assert a == 0 and b > 1


def test_one_row_a_class_leaves_zero_shot_alone_with_a_temperature():
    first = TASK.source.subset(torch.arange(5))
    found = stacked.fit_stacked(replace(TASK, source=first))
    assert found.probe_weight == 0 and found.text_weight > 0
    assert torch.equal(
        stacked.fit(replace(TASK, source=first)).classes, (TASK.target.features @ TASK.text_features.mT).argmax(-1)
    )


def test_a_class_without_source_rows_is_never_answered():
    task = replace(TASK, source=SOURCE.subset(SOURCE.labels != 3))
    answers = stacked.fit(task)
    assert (answers.logits[:, 3] == -torch.inf).all()
    assert answers.logits[:, [0, 1, 2, 4]].isfinite().all()
