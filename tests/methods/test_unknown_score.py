"""Unknown scores and their threshold against loops over rows, and against plain numbers."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from factories.tasks import random_task

from unimos_pipe.methods.accuracy_estimate import find_nearest_rows
from unimos_pipe.methods.auto import center_task
from unimos_pipe.methods.stacked import fit_stacked
from unimos_pipe.methods.task import AdaptationTask, LabelledFeatures, UnlabelledFeatures
from unimos_pipe.methods.unknown_score import (
    UnknownScorer,
    average_neighbours,
    find_unknown_rows,
    share_threshold,
    source_boundary,
    split_by_otsu,
)

HIDDEN = 2  # the last classes of the target, which the source does not have


@pytest.fixture(scope="module")
def task() -> AdaptationTask:
    """A task whose target has two classes more than its source."""
    whole = random_task(source=60, target=90, classes=6)
    kept = whole.source.labels < 6 - HIDDEN
    return AdaptationTask(whole.source.subset(kept), whole.target, whole.text_features[: 6 - HIDDEN])


@pytest.fixture(scope="module")
def unknown_rows(task):
    return find_unknown_rows(task, fit_stacked(task).model, find_nearest_rows(task.target.features).nearest)


def test_scores_are_those_of_a_loop_over_rows(task, unknown_rows):
    model, centered = fit_stacked(task).model, center_task(task)
    labels = centered.source.labels.tolist()
    similarities = []
    for x, c in zip(task.target.features, centered.target.features, strict=True):
        means = [
            F.normalize(
                sum(row for row, label in zip(centered.source.features, labels, strict=True) if label == k), dim=0
            )
            for k in range(len(task.text_features))
        ]
        logits = [float(x @ model.weight[:, k] + model.bias[k]) for k in range(len(means))]
        prompts = [float(c @ prompt) for prompt in centered.text_features]
        similarities.append((max(logits), max(float(c @ mean) for mean in means), max(prompts)))
    columns = list(zip(*similarities, strict=True))
    means = [sum(column) / len(column) for column in columns]
    spreads = [math.sqrt(sum((v - m) ** 2 for v in c) / len(c)) for c, m in zip(columns, means, strict=True)]
    own = [-sum((v - m) / s for v, m, s in zip(row, means, spreads, strict=True)) / 3 for row in similarities]
    torch.testing.assert_close(unknown_rows.scorer.score(task.target.features), torch.tensor(own, dtype=torch.float64))
    cosines = task.target.features @ task.target.features.mT
    averaged = []
    for row, own_score in enumerate(own):
        others = sorted((k for k in range(len(own)) if k != row), key=lambda k: -float(cosines[row, k]))[:5]
        averaged.append((own_score + sum(own[k] for k in others)) / 6)
    torch.testing.assert_close(unknown_rows.scores, torch.tensor(averaged, dtype=torch.float64))


def test_rows_of_classes_that_the_source_lacks_score_higher(task, unknown_rows):
    """AUROC 0.996; 27 of 30 unknown rows and 1 of 60 known ones are recognised as unknown."""
    hidden = torch.arange(90) % 6 >= 6 - HIDDEN
    pairs = unknown_rows.scores[hidden].unsqueeze(1) > unknown_rows.scores[~hidden]
    assert float(pairs.double().mean()) > 0.98
    recognised = unknown_rows.scores >= unknown_rows.threshold
    assert recognised[hidden].sum() >= 25 and recognised[~hidden].sum() <= 3


def test_the_share_is_the_smallest_bound_scaled_by_the_separability(unknown_rows):
    share = float((unknown_rows.scores >= unknown_rows.threshold).double().mean())
    scale = min(max((unknown_rows.separability - 0.6) / 0.12, 0), 1)
    bound = min(unknown_rows.otsu_share, unknown_rows.source_share, 0.5)
    assert scale > 0 and share == pytest.approx(scale * bound, abs=0.5 / 90)


def test_no_row_is_unknown_where_no_cosine_is_below_the_sources_boundary(task):
    known = torch.arange(90) % 6 < 6 - HIDDEN
    closed = replace(task, target=UnlabelledFeatures(task.target.features[known]))
    found = find_unknown_rows(closed, fit_stacked(closed).model, find_nearest_rows(closed.target.features).nearest)
    assert found.source_share == 0 and not (found.scores >= found.threshold).any()


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.2, 18), (0.999, 90)])
def test_a_given_share_is_taken(task, share, count):
    nearest = find_nearest_rows(task.target.features).nearest
    rows = find_unknown_rows(task, fit_stacked(task).model, nearest, share)
    assert int((rows.scores >= rows.threshold).sum()) == count
    new = rows.scorer.score(task.target.features) >= rows.scorer.threshold
    assert int(new.sum()) == count


def test_a_scorer_is_restored_from_its_tensors(task, unknown_rows):
    state = unknown_rows.scorer.state_dict()
    assert sorted(state)[:2] == ["unknown.bias", "unknown.class_means"]
    restored = UnknownScorer.from_state({**state, "weight": torch.ones(2)}, torch.device("cpu"))
    rows = task.target.features
    assert torch.equal(restored.score(rows), unknown_rows.scorer.score(rows))
    assert UnknownScorer.from_state({"weight": torch.ones(2)}, torch.device("cpu")) is None


def test_a_class_without_source_rows_is_left_out(task):
    rows = task.source.labels != 1
    fewer = AdaptationTask(task.source.subset(rows), task.target, task.text_features)
    found = find_unknown_rows(fewer, fit_stacked(fewer).model, find_nearest_rows(task.target.features).nearest)
    assert found.scorer.weight.shape == (16, 3) and found.scorer.class_means.shape == (3, 16)
    assert found.scores.isfinite().all()


def test_otsu_thresholds():
    """Of 5, 0, 1, 4, 6 the variance is 5.36 and that between 0.5 and 5 is 6/25 4.5^2."""
    assert split_by_otsu(torch.tensor([5.0, 0, 1, 4, 6])) == (2.5, pytest.approx(4.86 / 5.36))
    assert split_by_otsu(torch.tensor([1.0, 1, 1, 3])) == (2, pytest.approx(1))
    assert split_by_otsu(torch.ones(4)) == (math.inf, 0)
    values = torch.randn(101, generator=torch.Generator().manual_seed(0)).double()
    spreads = {}
    for cut in values.sort().values[1:].tolist():
        below, above = values[values < cut], values[values >= cut]
        spreads[cut] = len(below) * len(above) * float(below.mean() - above.mean()) ** 2
    best = max(spreads, key=spreads.get)
    assert float(values[values < best].max()) < split_by_otsu(values)[0] <= best


def test_known_shares_of_variance():
    """A share of 2 / pi lies between the halves of a normal distribution, 3 / 4 between those of a uniform one."""
    normal = torch.distributions.Normal(0, 1).icdf((torch.arange(10_000).double() + 0.5) / 10_000)
    assert split_by_otsu(normal)[1] == pytest.approx(2 / math.pi, abs=1e-3)
    assert split_by_otsu(torch.arange(10_000))[1] == pytest.approx(0.75, abs=1e-4)


def test_thresholds_of_a_share():
    scores = torch.tensor([0.0, 3, 1, 2])
    assert [share_threshold(scores, share) for share in (0, 0.25, 0.5, 1)] == [4, 2.5, 1.5, -1]


def test_neighbours_are_averaged_with_the_row_itself():
    values, nearest = torch.tensor([0.0, 3, 6]), torch.tensor([[1, 2], [0, 2], [1, 0]])
    assert average_neighbours(values, nearest).tolist() == [3, 3, 3]


def angles(*degrees: float) -> torch.Tensor:
    radians = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], -1)


def test_the_boundary_of_the_source():
    """Rows at 0, 20 and 90, 130 degrees: own means without the row at 20, 0, 130, 90; other means at 110 and 10.

    Their own cosines are those of 20, 20, 40, 40 degrees, to the other class of 110, 90, 80, 120. No row is below
    cos 80 = 0.17, and one of four is not below it; none of both at cos 40.
    """
    source = LabelledFeatures(angles(0, 20, 90, 130), torch.tensor([0, 0, 2, 2]))
    assert source_boundary(source, 3) == pytest.approx(math.cos(math.radians(40)))


def test_rows_alone_in_their_class_have_no_own_cosine():
    source = LabelledFeatures(angles(0, 60, 180), torch.tensor([0, 1, 2]))
    assert source_boundary(source, 3) == pytest.approx(0.5)  # of 0.5, 0.5 and -0.5
