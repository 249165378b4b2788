"""Methods that leave a linear model: zero-shot, source probe, fused, gda, linear-im; slow loops and guards by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from factories.tasks import random_task
from safetensors.torch import load, save
from scipy.optimize import minimize

from unimos_pipe.base.errors import InputError
from unimos_pipe.methods import fused, gda, linear_im, source_probe
from unimos_pipe.methods.logistic_regression import domain_balanced_weights
from unimos_pipe.methods.registry import METHODS
from unimos_pipe.methods.task import AdaptationTask, LabelledFeatures, UnlabelledFeatures

# float64: logits of some hundred are sums of 16 terms and round to 1e-13; the shrunk covariances that gda inverts have
# condition numbers below 1e4, which leaves 1e-9. 1e-8 is wide of both; solvers stop where their own tolerance says.
pytestmark = pytest.mark.numerical
TASK = random_task()
XS, YS, XT, MU = TASK.source.features, TASK.source.labels, TASK.target.features, TASK.text_features
CLASSES = len(MU)
LINEAR = [name for name, method in METHODS.items() if method.load_model]


def without_class(task: AdaptationTask, absent: int) -> AdaptationTask:
    kept = task.source.labels != absent
    return replace(task, source=LabelledFeatures(task.source.features[kept], task.source.labels[kept]))


def of_classes(task: AdaptationTask, count: int) -> AdaptationTask:
    kept = task.source.labels < count
    source = LabelledFeatures(task.source.features[kept], task.source.labels[kept])
    return AdaptationTask(source, task.target, task.text_features[:count])


def assert_close(found: torch.Tensor, wanted, tolerance: float = 1e-8) -> None:
    torch.testing.assert_close(found, torch.as_tensor(wanted, dtype=found.dtype), rtol=tolerance, atol=tolerance)


def softmax(row: list[float]) -> list[float]:
    weights = [math.exp(value - max(row)) for value in row]
    return [weight / sum(weights) for weight in weights]


def minus_row_means(table: list[list[float]]) -> list[list[float]]:
    return [[value - sum(row) / len(row) for value in row] for row in table]


def spread(table: list[list[float]]) -> float:
    values = [value for row in table for value in row]
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))


def products(rows: torch.Tensor, columns: torch.Tensor) -> list[list[float]]:
    return [
        [sum(a * b for a, b in zip(row, column, strict=True)) for column in columns.tolist()] for row in rows.tolist()
    ]


ZERO_SHOT = [[100 * value for value in row] for row in products(XT, MU)]


@pytest.mark.parametrize("name", LINEAR)
def test_a_model_answers_the_target_as_its_fit_did_and_comes_back_from_its_state(name):
    task = random_task(dtype=torch.float32)
    answers = METHODS[name].fit(task)
    assert answers.logits.dtype == torch.float32 and answers.logits.shape == (56, CLASSES)
    back = METHODS[name].load_model(load(save(answers.model.state_dict())))
    logits = back.logits(task.target.features)
    if METHODS[name].transductive:  # the head is fitted to the method's own answers
        assert (logits.argmax(-1) == answers.classes).float().mean() > 0.97
    else:
        assert torch.equal(logits, answers.logits)
    assert torch.equal(METHODS[name].fit(task).logits, answers.logits)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_probabilities_for_every_row_and_beats_chance(name):
    answers = METHODS[name].fit(TASK)
    assert_close(answers.probabilities.sum(-1), torch.ones(56))
    labels = torch.arange(56) % CLASSES  # as random_task draws them
    assert (answers.classes == labels).double().mean() > 0.5


def test_zero_shot_is_a_hundred_cosines():
    assert_close(METHODS["zero-shot"].fit(TASK).logits, ZERO_SHOT)


def test_the_probe_is_the_least_of_its_penalised_loss():
    """C = 10 weighs the summed cross-entropy against half the squared weights; the bias is free."""
    model = source_probe.fit_probe(TASK)

    def loss(flat: np.ndarray) -> float:
        weight, bias = flat[:-CLASSES].reshape(CLASSES, -1), flat[-CLASSES:]
        logits = XS.numpy() @ weight.T + bias
        summed = -sum(math.log(softmax(row.tolist())[label]) for row, label in zip(logits, YS.tolist(), strict=True))
        return 10 * summed + (weight**2).sum() / 2

    least = loss(np.concatenate([model.weight.mT.flatten().numpy(), model.bias.numpy()]))
    rng = np.random.default_rng(0)
    for _ in range(20):
        step = 0.05 * rng.standard_normal(CLASSES * 17)
        assert loss(np.concatenate([model.weight.mT.flatten().numpy(), model.bias.numpy()]) + step) > least


def test_two_classes_share_the_decision_value():
    task = of_classes(TASK, 2)
    decision = source_probe.fit_logistic_regression(task.source.features.numpy(), task.source.labels.numpy())
    wanted = torch.from_numpy(decision.decision_function(XT.numpy()))
    assert_close(METHODS["source-probe"].fit(task).logits, torch.stack([-wanted / 2, wanted / 2], 1))


def test_the_probes_loss_is_level_where_it_is_fitted():
    """The gradient of 10 sum CE + |W|^2 / 2 in W and b; another C would leave a slope of a part of W."""
    model = source_probe.fit_probe(TASK)
    logits = XS @ model.weight + model.bias
    error = logits.softmax(1) - torch.nn.functional.one_hot(YS, logits.shape[1])
    assert (10 * XS.T @ error + model.weight).abs().max() < 0.02 * model.weight.abs().max()
    assert (10 * error.sum(0)).abs().max() < 0.05


def test_one_class_is_too_few_for_a_probe():
    with pytest.raises(InputError) as error:
        source_probe.fit(replace(TASK, source=LabelledFeatures(XS[:4], torch.zeros(4, dtype=torch.int64))))
    assert str(error.value) == "labels to fit a probe on: expected at least 2 classes, got 1"


@pytest.mark.parametrize("name", ["source-probe", "fused", "gda"])
def test_a_class_without_source_rows_is_never_answered(name):
    task = without_class(TASK, 3)
    answers = METHODS[name].fit(task)
    assert (answers.logits[:, 3] == -torch.inf).all() and not answers.probabilities[:, 3].any()
    assert answers.logits[:, [0, 1, 2, 4]].isfinite().all()


def test_row_weights_count_as_copies_of_rows_do():
    weights = torch.tensor([1.0, 2.0]).repeat(20)
    copied = torch.arange(40).repeat_interleave(weights.long()).numpy()
    x, y = XS.numpy(), YS.numpy()
    weighted, twice, plain = (
        source_probe.fit_logistic_regression(*fitted).coef_
        for fitted in ((x, y, weights.numpy()), (x[copied], y[copied]), (x, y))
    )
    assert_close(torch.tensor(weighted), torch.tensor(twice), 1e-3)  # each stops at 1e-4
    assert abs(plain - twice).max() > 0.1


def test_every_domain_of_a_source_counts_the_same():
    """Eight rows of one domain and 32 of another: as if each of the eight were there four times, and then as 40."""
    origins = (torch.arange(40) >= 8).long()
    several = replace(TASK, source=replace(TASK.source, origins=origins))
    copied = torch.cat([torch.arange(8).repeat_interleave(4), torch.arange(8, 40)])
    weights = np.full(64, 40 / 64)
    wanted = source_probe.fit_logistic_regression(XS[copied].numpy(), YS[copied].numpy(), weights)
    for probe in (source_probe.fit_probe(several), source_probe.fit_probe(several, intercept=False)):
        assert (probe.weight - source_probe.fit_probe(TASK).weight).abs().max() > 0.1
    assert_close(source_probe.fit_probe(several).weight.mT, torch.tensor(wanted.coef_), 2e-3)


def test_equal_say_gives_every_source_the_same_sum():
    assert_close(domain_balanced_weights(torch.tensor([0, 0, 0, 2])), [4 / 6, 4 / 6, 4 / 6, 2])


def test_fused_by_loop():
    probe = source_probe.fit_probe(TASK)
    p = [[v + b for v, b in zip(row, probe.bias.tolist(), strict=True)] for row in products(XT, probe.weight.mT)]
    z, p = minus_row_means(ZERO_SHOT), minus_row_means(p)
    scale = spread(z) / spread(p)
    wanted = [[(a + b * scale) / 2 for a, b in zip(*rows, strict=True)] for rows in zip(z, p, strict=True)]
    assert_close(fused.fit(TASK).logits, wanted)


def test_fused_leaves_an_absent_class_out_of_means_and_deviations():
    """The last class absent: the other columns are those of the task that does not know of it."""
    smaller = fused.fit(of_classes(TASK, CLASSES - 1))
    assert_close(fused.fit(without_class(TASK, CLASSES - 1)).logits[:, :-1], smaller.logits)


def test_fused_answers_new_rows_with_the_deviations_of_the_target():
    new = random_task(seed=5).target.features
    one_by_one = torch.cat([fused.fit(TASK).model.logits(row.unsqueeze(0)) for row in new])
    assert_close(one_by_one, fused.fit(TASK).model.logits(new))
    other = replace(TASK, target=UnlabelledFeatures(new))
    assert (fused.fit(other).logits - one_by_one).abs().max() > 1e-3


def teacher_by_loop(task: AdaptationTask) -> list[list[float]]:
    """A class without source rows has no part in the probe's mean and none of its weight."""
    w = source_probe.fit_probe(task, intercept=False).weight.mT.tolist()
    mu = task.text_features.tolist()
    present = sorted(set(task.source.labels.tolist()))

    def centred(table, rows):
        means = [sum(table[row][i] for row in rows) / len(rows) for i in range(len(table[0]))]
        return [[value - mean for value, mean in zip(row, means, strict=True)] for row in table]

    cmu = centred(mu, range(len(mu)))
    cw = [row if k in present else [0.0] * len(row) for k, row in enumerate(centred(w, present))]
    text_logits = [[100 * v for v in row] for row in products(XT, torch.tensor(cmu, dtype=torch.float64))]
    s = spread(text_logits) / spread(products(XT, torch.tensor(cw, dtype=torch.float64)))
    return [[(a + s / 100 * b) / 2 for a, b in zip(*rows, strict=True)] for rows in zip(cmu, cw, strict=True)]


@pytest.mark.parametrize("task", [TASK, of_classes(TASK, 2), without_class(TASK, 3)], ids=["all", "two", "one absent"])
def test_the_fused_teachers_text_by_loop(task):
    assert_close(fused.fused_text_features(task, source_probe.fit_probe(task, intercept=False)), teacher_by_loop(task))


def test_the_fused_teacher_takes_the_mean_over_the_classes_that_the_source_has():
    """Probes that differ by one vector for all present classes are one probe."""
    task = without_class(TASK, 3)
    probe = source_probe.fit_probe(task, intercept=False)
    shift = torch.where(torch.arange(CLASSES) == 3, 0.0, torch.linspace(1, 2, 16, dtype=torch.float64).unsqueeze(1))
    shifted = replace(probe, weight=probe.weight + shift)
    assert_close(fused.fused_text_features(task, shifted), fused.fused_text_features(task, probe))


def test_the_fused_teacher_keeps_the_prompt_of_an_absent_class():
    task = without_class(TASK, 3)
    text = fused.fused_text_features(task, source_probe.fit_probe(task, intercept=False))
    assert_close(text[3], (MU[3] - MU.mean(0)) / 2)


def test_the_discriminant_by_loop():
    rows, labels, dim = XS.tolist(), YS.tolist(), XS.shape[1]
    means = []
    for k in range(CLASSES):
        members = [row for row, label in zip(rows, labels, strict=True) if label == k]
        means.append([sum(column) / len(members) for column in zip(*members, strict=True)])
    deviations = [[x - m for x, m in zip(row, means[k], strict=True)] for row, k in zip(rows, labels, strict=True)]
    n = len(rows)
    covariance = [[sum(d[i] * d[j] for d in deviations) / (n - 1) for j in range(dim)] for i in range(dim)]
    trace = sum(covariance[i][i] for i in range(dim))
    matrix = [[(n - 1) * covariance[i][j] + trace * (i == j) for j in range(dim)] for i in range(dim)]
    precision = dim * np.linalg.inv(np.array(matrix))
    model = gda.fit_discriminant(TASK.source, CLASSES)
    for k, mean in enumerate(means):
        column = precision @ np.array(mean)
        assert_close(model.weight[:, k], column)
        assert_close(model.bias[k], -0.5 * np.array(mean) @ column)


def test_gdas_scale_makes_it_as_sure_as_zero_shot():
    logits = gda.fit(TASK).logits
    model = gda.fit_discriminant(TASK.source, CLASSES)
    raw = minus_row_means(model.logits(XT).tolist())
    added = minus_row_means((logits - torch.tensor(ZERO_SHOT, dtype=torch.float64)).tolist())
    a = added[0][0] / raw[0][0]
    assert_close(torch.tensor(added, dtype=torch.float64), [[a * value for value in row] for row in raw], 1e-7)
    sure = sum(max(softmax([a * value for value in row])) for row in raw) / len(raw)
    assert sure == pytest.approx(sum(max(softmax(row)) for row in ZERO_SHOT) / len(raw), abs=1e-9)


def test_bisection_finds_a_scale_by_hand_and_stops_at_its_ends():
    g = torch.tensor([[1.0, -1.0]], dtype=torch.float64)  # sigmoid(2 a) is the larger probability
    assert gda.match_mean_confidence(g, torch.tensor(0.75)) == pytest.approx(math.log(3) / 2, rel=1e-9)
    assert gda.match_mean_confidence(g, torch.tensor(0.4)) == pytest.approx(1e-4, rel=1e-9)
    assert gda.match_mean_confidence(g * 1e-8, torch.tensor(0.9)) == pytest.approx(1e4, rel=1e-9)


def loop_objective(weight: list[list[float]], bias: list[float]) -> float:
    def answers(rows):
        logits = products(rows, torch.tensor(weight, dtype=torch.float64))
        return [softmax([20 * v + b for v, b in zip(row, bias, strict=True)]) for row in logits]

    def entropy(p):
        return -sum(value * math.log(value + 1e-6) for value in p)

    source = -sum(math.log(p[label]) for p, label in zip(answers(XS), YS.tolist(), strict=True)) / len(XS)
    target = answers(XT)
    mean = [sum(column) / len(target) for column in zip(*target, strict=True)]
    information = sum(map(entropy, target)) / len(target) - entropy(mean)
    return source + information + 1e-4 * sum(v * v for row in weight for v in row)


def test_linear_ims_objective_by_loop():
    g = torch.Generator().manual_seed(1)
    weight = torch.randn(CLASSES, 16, generator=g, dtype=torch.float64) / 5
    bias = torch.randn(CLASSES, generator=g, dtype=torch.float64)
    wanted = loop_objective(weight.tolist(), bias.tolist())
    assert float(linear_im.objective(TASK, weight, bias)) == pytest.approx(wanted, abs=1e-10)


def test_linear_im_reaches_the_minimum_that_another_optimiser_finds():
    def value_and_slope(flat: np.ndarray):
        point = torch.from_numpy(flat.copy()).requires_grad_()
        loss = linear_im.objective(TASK, point[:-CLASSES].view(CLASSES, -1), point[-CLASSES:])
        (slope,) = torch.autograd.grad(loss, point)
        return float(loss.detach()), slope.numpy()

    start = np.zeros(CLASSES * 17)
    found = minimize(value_and_slope, start, jac=True, method="L-BFGS-B", options={"maxiter": 3000, "ftol": 1e-15})
    model = linear_im.fit(TASK).model
    reached = loop_objective((model.weight.mT / 20).tolist(), model.bias.tolist())
    assert reached == pytest.approx(found.fun, abs=1e-4)
