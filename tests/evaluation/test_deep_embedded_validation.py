"""DEV: density ratios of two points, the control variate by hand, and the score of a run."""

import math

import pytest
import torch
from factories.tasks import random_task, small_method

from unimos_pipe.evaluation.deep_embedded_validation import WeightedSourceRows, density_ratios, weighted_risk
from unimos_pipe.methods.unimos.training_run import create_run

pytestmark = pytest.mark.numerical


@pytest.mark.parametrize("target_counts", [(5, 15), (10_500, 31_500)])
def test_the_ratio_of_two_points_is_that_of_their_shares(target_counts):
    """Three quarters of the source lie at a, a quarter of the target, of any number of rows.

    The penalty, 1 / (2 C n) of the squared slopes, shrinks log 3 by about 1 / (C n s) with s = 3/16, the variance: by
    less than 0.007 for n = 80.
    """
    points = torch.eye(2, dtype=torch.float64)
    source = points.repeat_interleave(torch.tensor([45, 15]), 0)
    target = points.repeat_interleave(torch.tensor(target_counts), 0)
    ratios = density_ratios(source, target, points)
    assert ratios.tolist() == pytest.approx([1 / 3, 3.0], rel=0.02)


def test_the_control_variate_by_hand():
    losses, weights = torch.tensor([1.0, 0.0, 2.0, 0.0]), torch.tensor([0.5, 1.0, 2.0, 2.5])
    # w l = 0.5, 0, 4, 0: mean 1.125; w: mean 1.5; cov(w l, w) = 0.375, var(w) = 0.625, both times 4: 1.5 and 2.5
    assert float(weighted_risk(losses, weights)) == pytest.approx(1.125 - 0.6 * 0.5, rel=1e-6)
    assert float(weighted_risk(losses, torch.ones(4))) == 0.75
    constant = weighted_risk(torch.full((4,), 3.0), weights)  # the variate removes all of the weights' variance
    assert float(constant) == pytest.approx(3.0, rel=1e-6)


def test_rows_that_are_like_the_target_count_more():
    rows = WeightedSourceRows(torch.tensor([0, 1]), torch.tensor([1.6, 0.4]))
    first_right, second_right = (torch.tensor([[p, 1 - p], [p, 1 - p]]) for p in (0.9, 0.1))
    # With two rows the control variate gives the line through both weighted losses at weight 1.
    first, second = -math.log(0.9), -math.log(0.1)
    middle = (1.6 * first * 0.5) + (0.4 * second * 0.5)
    assert float(rows.score(first_right)) == pytest.approx(-middle, rel=1e-5)
    assert rows.score(first_right) > rows.score(second_right)


def test_a_run_without_held_out_source_rows_has_none():
    task = random_task(40, 56)
    assert WeightedSourceRows.of_run(create_run(task, small_method(train__epochs=1), 3)) is None
    run = create_run(task, small_method(train__epochs=1, train__source_holdout=0.25), 3)
    rows = WeightedSourceRows.of_run(run)
    assert rows.labels.equal(run.held_out_source.labels) and rows.ratios.isfinite().all() and len(rows.ratios) == 10
