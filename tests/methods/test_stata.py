"""Statistical anchors against the equations as loops."""

import math

import pytest
import torch
from factories.tasks import random_task

from unimos_pipe.methods import fused, stata, zero_shot
from unimos_pipe.methods.stata import NeighbourGraph, fit_from_logits, update_clusters
from unimos_pipe.methods.task import AdaptationTask, UnlabelledFeatures

# float64: a few rounds of means over 56 rows, each of which carries an error of 1e-16 through exponents up to some
# hundred: 1e-13. 1e-8 is wide of that.
pytestmark = pytest.mark.numerical
TASK = random_task(target=14, dim=6, classes=3, seed=2)


def normalised(values: list[float]) -> list[float]:
    return [value / sum(values) for value in values]


def unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector]


def dot(a: list[float], b: list[float]) -> float:
    return sum(p * q for p, q in zip(a, b, strict=True))


def loop(x: list[list[float]], mu: list[list[float]], start: list[list[float]]) -> list[list[float]]:
    n, dim, classes = len(x), len(x[0]), len(mu)
    w = [[0.0] * n for _ in range(n)]
    for i in range(n):
        nearest = sorted((j for j in range(n) if j != i), key=lambda j: -dot(x[i], x[j]))[:3]
        for j in nearest:
            w[i][j] = dot(x[i], x[j])
    r, m = [list(row) for row in start], [list(row) for row in mu]
    s0 = [sum(r[i][k] * (x[i][d] - mu[k][d]) ** 2 for i in range(n) for k in range(classes)) / n for d in range(dim)]
    s = [list(s0) for _ in range(classes)]

    def inner() -> list[list[float]]:
        new = []
        for i in range(n):
            row = []
            for k in range(classes):
                distance = sum((x[i][d] - m[k][d]) ** 2 / s[k][d] for d in range(dim))
                volume = sum(math.log(s[k][d]) for d in range(dim))
                pull = sum((w[i][j] + w[j][i]) * r[j][k] for j in range(n))
                row.append(start[i][k] * math.exp((-distance / 2 - volume / 2 + 50 / 6 * pull) / 50))
            new.append(normalised(row))
        return new

    for outer in range(11):
        for _ in range(5):
            r = inner()
        if outer == 10:
            break
        for k in range(classes):
            members = sum(row.index(max(row)) == k for row in r)
            beta = members / (1 + members)
            mass = max(sum(row[k] for row in r), 1e-12)
            centre = unit([sum(r[i][k] * x[i][d] for i in range(n)) for d in range(dim)])
            m[k] = unit([beta * c + (1 - beta) * t for c, t in zip(centre, mu[k], strict=True)])
            s[k] = [
                max(beta * sum(r[i][k] * (x[i][d] - m[k][d]) ** 2 for i in range(n)) / mass
                    + (1 - beta) * (s0[d] + (mu[k][d] - m[k][d]) ** 2), 1e-8)
                for d in range(dim)
            ]  # fmt: skip
    return r


@pytest.mark.parametrize(("fit", "start"), [(stata.fit, zero_shot.fit), (stata.fit_from_fused, fused.fit)])
def test_the_whole_method_by_loop_from_either_start(fit, start):
    wanted = loop(TASK.target.features.tolist(), TASK.text_features.tolist(), start(TASK).logits.softmax(-1).tolist())
    torch.testing.assert_close(fit(TASK).probabilities, torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=1e-8)


def test_neighbours_pull_both_ways_by_hand():
    graph = NeighbourGraph(torch.tensor([[0.5], [0.25], [1.0]]), torch.tensor([[1], [0], [0]]))
    r = torch.tensor([[1.0], [10.0], [100.0]])
    assert graph.symmetric_matmul(r).flatten().tolist() == [0.5 * 10 + 0.25 * 10 + 100, 0.5 + 0.25, 1.0]


def test_a_cluster_without_members_stays_at_its_anchor():
    rows, text = TASK.target.features, TASK.text_features
    r = torch.zeros(14, 3, dtype=torch.float64)
    r[:, 0] = 1
    s0 = torch.full((6,), 0.1, dtype=torch.float64)
    means, variances = update_clusters(r, rows, text, s0)
    torch.testing.assert_close(means[1:], text[1:])
    torch.testing.assert_close(variances[1:], s0.expand(2, 6))
    assert means.isfinite().all() and variances.isfinite().all()


def test_variances_have_a_floor_where_rows_are_duplicates_of_their_prompt():
    text = TASK.text_features
    task = AdaptationTask(TASK.source, UnlabelledFeatures(text[[0, 0, 0, 1, 1]]), text)
    answers = stata.fit(task)
    assert answers.probabilities.isfinite().all() and answers.classes.tolist() == [0, 0, 0, 1, 1]
    r = torch.eye(3, dtype=torch.float64)[[0, 0, 0, 1, 1]]
    _, variances = update_clusters(r, task.target.features, text, torch.zeros(6, dtype=torch.float64))
    assert variances.min() == 1e-8


def test_a_class_that_the_start_never_answers_stays_so():
    start = zero_shot.fit(TASK).logits
    start[:, 2] = -torch.inf
    answers = fit_from_logits(TASK, start)
    assert not answers.probabilities[:, 2].any() and answers.probabilities.isfinite().all()
