"""The scikit-learn classifier in scikit-learn's checks and in skada's cross-validation."""

import numpy as np
import pytest
import torch
from factories.tasks import random_task

import unimos_pipe
from unimos_pipe.base.errors import InputError
from unimos_pipe.methods.from_arrays import task_from_arrays

pytest.importorskip("sklearn", minversion="1.6")
SMALL = {
    "train.epochs": 3,
    "train.max_steps": 15,
    "heads.bottleneck_dim": 16,
    "heads.weight_hidden": 8,
    "heads.discriminator_hidden": 8,
}


def small(**options):
    return unimos_pipe.UniMoSClassifier(settings=SMALL, **options)


@pytest.mark.slow
def test_scikit_learns_checks_pass():
    from sklearn.utils.estimator_checks import check_estimator

    results = check_estimator(small(), on_skip=None, on_fail=None)
    failed = {
        result["check_name"]: str(result["exception"])[-400:] for result in results if result["status"] == "failed"
    }
    assert len(results) > 40
    assert not failed


@pytest.mark.parametrize("name", ["make_shifted_datasets", "make_shifted_blobs"])
def test_skadas_cross_validation_runs_it(name):
    skada_datasets = pytest.importorskip("skada.datasets")
    from skada.model_selection import SourceTargetShuffleSplit, StratifiedDomainShuffleSplit
    from sklearn.model_selection import cross_validate

    if name == "make_shifted_datasets":
        x, y, domain = skada_datasets.make_shifted_datasets(
            n_samples_source=8, n_samples_target=8, shift="conditional_shift", noise=0.1, random_state=0
        )
    else:
        x, y, domain = skada_datasets.make_shifted_blobs(
            n_samples=60, centers=3, shift=0.3, cluster_std=0.2, random_state=0
        )
    for splitter in (
        SourceTargetShuffleSplit(n_splits=2, random_state=0),
        StratifiedDomainShuffleSplit(2, random_state=0),
    ):
        found = cross_validate(small(), x, y, cv=splitter, params={"sample_domain": domain}, error_score="raise")
        assert len(found["test_score"]) == 2 and (found["test_score"] > 0.3).all()


def blobs(seed: int, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Three clusters in the plane, turned by an angle."""
    rng = np.random.default_rng(seed)
    y = np.arange(60) % 3
    angle = y * 2.1 + turn + 0.15 * rng.standard_normal(60)
    return np.stack([np.cos(angle), np.sin(angle)], 1), y


def test_target_labels_are_never_looked_at_and_a_seed_is_a_model():
    (xs, ys), (xt, yt) = blobs(0, 0.0), blobs(1, 0.4)
    x, domain = np.concatenate([xs, xt]), np.repeat([1, -2], 60)
    masked = small().fit(x, np.concatenate([ys, np.full(60, -1)]), sample_domain=domain)
    told = small().fit(x, np.concatenate([ys, yt]), domain)
    assert np.array_equal(masked.predict_proba(xt), told.predict_proba(xt))
    assert masked.classes_.tolist() == [0, 1, 2] and masked.score(xt, yt) >= 0.9
    assert np.allclose(masked.predict_proba(xt).sum(1), 1)
    other = small(random_state=1).fit(x, np.concatenate([ys, yt]), domain)
    assert not np.array_equal(other.predict_proba(xt), told.predict_proba(xt))


@pytest.mark.parametrize(("sources", "targets"), [(59, 1), (1, 59)])
def test_a_domain_of_one_row_is_refused(sources, targets):
    x, y = blobs(0, 0.0)
    with pytest.raises(ValueError, match=r"^n_samples=60: 1 sample in a domain is not enough; each needs 2$"):
        small().fit(x, y, np.repeat([1, -1], [sources, targets]))


def test_text_takes_the_place_of_class_means():
    (xs, ys), (xt, yt) = blobs(0, 0.0), blobs(1, 0.4)
    text = np.stack([np.cos(np.arange(3) * 2.1), np.sin(np.arange(3) * 2.1)], 1)
    names = np.array(["bar", "circle", "square"])
    x, domain = np.concatenate([xs, xt]), np.repeat([1, -1], 60)
    found = small(text=text).fit(x, np.concatenate([names[ys], names[yt]]), domain)
    assert np.allclose(found.text_.numpy(), text) and found.score(xt, names[yt]) >= 0.9
    with pytest.raises(InputError, match=r"the text features: expected 3 rows, one a class, got 2"):
        small(text=text[:2]).fit(xs, ys)


def test_a_task_from_arrays_is_the_task():
    made = random_task()
    classes = list("abcde")
    labels = [classes[k] for k in made.source.labels.tolist()]
    arrays = made.source.features.numpy(), labels
    text = 3 * made.text_features.numpy()
    found = unimos_pipe.task_from_arrays(arrays, made.target.features.numpy(), text, classes, dtype=torch.float64)
    assert torch.allclose(found.source.features, made.source.features) and found.source.labels.equal(made.source.labels)
    assert torch.allclose(found.target.features, made.target.features)
    assert torch.allclose(found.text_features, made.text_features)
    rows = len(made.source.features), len(made.target.features)
    dim = made.text_features.shape[1]
    assert repr(found) == f"<AdaptationTask: {rows[0]} source and {rows[1]} target rows, 5 classes, D = {dim}>"
    with pytest.raises(InputError, match=r"^task: expected one of make_task, .*, got AdaptationTask\. Features"):
        unimos_pipe.adapt_task(found)


X = np.eye(4)
WRONG = [
    ((X, [0, 1, 0, 2]), X, X[:2], [0, 1], "the source's labels: expected some of 0, 1, got 2"),
    ((X, [0, 1, 0]), X, X[:2], [0, 1], "the source's labels: expected 4 of them, got 3"),
    ((X, [0, 1, 0, 1]), X[:, :3], X[:2], [0, 1],
     "the target features: expected numbers of shape (n, 4), got float64 of shape (4, 3)"),
    ((X, [0, 1, 0, 1]), X * np.nan, X[:2], [0, 1], "the target features: expected finite numbers, got NaN or infinity"),
    ((X, [0, 1, 0, 1]), X, X[:3], [0, 1], "the text features: expected 2 rows, one a class, got 3"),
    ((X, [0, 0, 0, 0]), X, X[:1], [0], "classes: expected two or more different ones, got 0"),
    ((X, [0, 0, 0, 0]), X, None, [0, 1], "the source has no rows of 1, whose mean would stand for text; pass text"),
    ((X, [0, 1, 0, 1]), X[:1], X[:2], [0, 1], "the target domain is too small: expected at least 2 rows, got 1"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "target", "text", "classes", "told"), WRONG)
def test_arrays_that_do_not_fit_are_one_line(source, target, text, classes, told):
    with pytest.raises(InputError) as caught:
        task_from_arrays(source, target, text, classes)
    assert str(caught.value) == told
