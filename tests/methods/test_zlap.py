"""Label propagation against a dense solve, and its guards by hand."""

import numpy as np
import pytest
import torch
from factories.tasks import random_task

from unimos_pipe.base.errors import ExecutionError
from unimos_pipe.methods import zlap
from unimos_pipe.methods.task import AdaptationTask, UnlabelledFeatures

# float64 against float64 sums of 56 terms, solved to 1e-8 of a system whose condition is below 100.
pytestmark = pytest.mark.numerical
TASK = random_task(target=30, dim=8, classes=7, seed=4)


def dense(x: list[list[float]], mu: list[list[float]]) -> np.ndarray:
    """Z's rows as the equations say, over dense matrices filled edge by edge."""

    def cosine(a, b) -> float:
        return sum(p * q for p, q in zip(a, b, strict=True))

    n, classes = len(x), len(mu)
    edges = np.zeros((classes + n, classes + n))
    for i in range(n):
        nearest = sorted(range(n), key=lambda j: -2.0 if j == i else -cosine(x[i], x[j]))[:5]
        for j in nearest:
            if j != i:
                edges[classes + i, classes + j] = max(cosine(x[i], x[j]), 0)
        for k in sorted(range(classes), key=lambda k: -cosine(x[i], mu[k]))[:5]:
            edges[classes + i, k] = max(cosine(x[i], mu[k]), 0) ** 5
    edges = edges + edges.T
    degree = edges.sum(1)
    degree[degree == 0] = 1
    edges = edges / np.sqrt(np.outer(degree, degree))
    right = np.concatenate([np.eye(classes), np.zeros((n, classes))])
    return np.linalg.solve(np.eye(classes + n) - 0.3 * edges, right)[classes:]


def test_propagation_is_the_dense_solution():
    wanted = dense(TASK.target.features.tolist(), TASK.text_features.tolist())
    found = zlap.propagate(zlap.build_graph(TASK.target.features, TASK.text_features), 7)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-8)
    answers = zlap.fit(TASK)
    assert answers.classes.tolist() == wanted.argmax(1).tolist()
    shares = wanted / wanted.sum(1, keepdims=True)
    np.testing.assert_allclose(answers.probabilities.numpy(), shares, rtol=0, atol=1e-6)


def test_a_row_without_edges_answers_all_classes_alike():
    """Two rows opposite to both prompts and orthogonal to each other; the third is the first prompt itself."""
    e = torch.eye(4, dtype=torch.float64)
    task = AdaptationTask(TASK.source, UnlabelledFeatures(torch.stack([-e[0], e[3], e[0]])), e[:2])
    edges = zlap.build_graph(task.target.features, task.text_features).toarray()
    assert not edges[[2, 3]].any()
    assert edges[4, 0] == pytest.approx(1)  # its one edge, by both ends' degree
    probabilities = zlap.fit(task).probabilities
    assert probabilities[:2].flatten().tolist() == pytest.approx([0.5] * 4)
    assert probabilities[2].tolist() == pytest.approx([1, 0], abs=1e-7)


def test_solving_in_too_few_steps_is_an_error(monkeypatch):
    monkeypatch.setattr(zlap, "MAX_STEPS", 1)
    with pytest.raises(ExecutionError, match=r"^zlap: conjugate gradients did not converge in 1 steps$"):
        zlap.fit(TASK)
