"""Inference, clusters and pseudo-labels against slow loops."""

import pytest
import torch
from factories.tasks import made_heads, random_task, small_method

from unimos_pipe.base.method_config import EvalSpec
from unimos_pipe.methods.unimos import pseudo_labels
from unimos_pipe.methods.unimos.pseudo_labels import class_centroids, evaluate_target, nearest_centroid, teacher_logits

# float64: 1e-12 is some thousand epsilons, 1e-9 some million; logits of some hundred are sums of 16 terms.
pytestmark = pytest.mark.numerical
TASK = random_task()


def evaluated(method):
    heads = made_heads(method).runs(0, 1, training=False)
    heads.running_mean.normal_(generator=torch.Generator().manual_seed(1))
    heads.running_var.fill_(1.7)
    heads.label_prior.copy_(torch.tensor([[0.4, 0.3, 0.1, 0.1, 0.1]], dtype=torch.float64))
    return heads


def test_centroids_and_clusters_by_loop():
    g = torch.Generator().manual_seed(0)
    p = torch.rand(6, 3, generator=g, dtype=torch.float64)
    b = torch.randn(6, 4, generator=g, dtype=torch.float64)
    unit = [row / sum(value**2 for value in row) ** 0.5 for row in b]
    wanted = [sum(p[i, k] * unit[i] for i in range(6)) / (1e-8 + sum(p[i, k] for i in range(6))) for k in range(3)]
    centroids = class_centroids(p, b)
    assert torch.allclose(centroids, torch.stack(wanted), rtol=1e-12)
    cosine = [[float(unit[i] @ c / c.norm()) for c in wanted] for i in range(6)]
    assert nearest_centroid(b, centroids).tolist() == [row.index(max(row)) for row in cosine]


def test_a_class_without_predicted_mass_attracts_no_row():
    """Its centroid is a direction, but of no length: the row that points the same way goes to another class."""
    b = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], dtype=torch.float64)
    p = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5 - 1e-20, 1e-20]], dtype=torch.float64)
    centroids = class_centroids(p, b)
    assert 0 < centroids[2].norm() < 1e-8
    assert nearest_centroid(b, centroids).tolist() == [0, 1, 1]


def test_assessment_ensembles_debiased_text_with_vac():
    method = small_method()
    heads, x, text = evaluated(method), TASK.target.features, TASK.text_features
    found = evaluate_target(heads, x, text, 4, method.eval)
    vac = heads.classify(heads.bottleneck(heads.vac(x.unsqueeze(0))))[0]
    lac = 100 * heads.lac(x.unsqueeze(0))[0] @ text.T - 0.5 * heads.label_prior[0].log()
    assert found.weight == pytest.approx(0.6)
    assert torch.allclose(found.probabilities, (0.6 * vac + 0.4 * lac).softmax(-1), rtol=1e-9)
    assert found.vac_predictions.equal(vac.argmax(-1)) and found.text_predictions.equal(lac.argmax(-1))
    assert found.pseudo_labels.equal(found.predictions)
    assert evaluate_target(heads, x, text, 5, method.eval).pseudo_labels.equal(
        evaluate_target(heads, x, text, 5, method.eval).cluster_labels
    )


def test_first_assessments_use_the_teacher():
    method = small_method()
    heads, x, text = evaluated(method), TASK.target.features, TASK.text_features
    zero_shot = 100 * x @ text.T
    before, first = (evaluate_target(heads, x, text, epoch, method.eval) for epoch in (-1, 0))
    for found in (before, first):
        assert found.text_predictions.equal(zero_shot.argmax(-1)) and found.pseudo_labels.equal(zero_shot.argmax(-1))
    assert torch.allclose(before.bottleneck, heads.bottleneck(x.unsqueeze(0))[0])  # of x itself, not of VAC
    assert torch.allclose(first.bottleneck, heads.bottleneck(heads.vac(x.unsqueeze(0)))[0])
    teacher = teacher_logits(x, text, 100.0)
    assert torch.allclose(teacher.mean(-1), torch.zeros(56, dtype=torch.float64), atol=1e-9)


def test_no_debias_changes_evaluation_only():
    """The ablation is tau = 0 at inference: other text answers, the same losses (test_step shows the latter)."""
    plain, ablated = small_method(), small_method("no-debias")
    heads, x, text = evaluated(plain), TASK.target.features, TASK.text_features
    a, b = (evaluate_target(heads, x, text, 3, method.eval) for method in (plain, ablated))
    lac = 100 * heads.lac(x.unsqueeze(0))[0] @ text.T
    assert b.text_predictions.equal(lac.argmax(-1)) and not torch.allclose(a.probabilities, b.probabilities)
    assert plain.loss == ablated.loss and plain.train == ablated.train and ablated.eval == EvalSpec(debias_tau=0.0)


def test_chunks_change_nothing(monkeypatch):
    method = small_method()
    heads, x, text = evaluated(method), TASK.target.features, TASK.text_features
    whole = evaluate_target(heads, x, text, 3, method.eval)
    monkeypatch.setattr(pseudo_labels, "CHUNK", 9)
    parts = evaluate_target(heads, x, text, 3, method.eval)
    assert torch.allclose(whole.probabilities, parts.probabilities, rtol=1e-12)
    assert whole.cluster_labels.equal(parts.cluster_labels)
