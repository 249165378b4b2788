"""The one mean and spread; and the interval of an accuracy on a few rows."""

import pytest
from scipy.stats import binomtest

from unimos_pipe.runs.statistics import MeanStd, describe_labelled_rows, mean_and_std, wilson_interval


def test_means_go_over_runs_then_seeds_then_pairs():
    found = mean_and_std([("a", 0, 0.1), ("a", 0, 0.3), ("a", 1, 0.4), ("b", 0, 0.6), ("b", 1, 0.6), ("b", 2, 0.9)])
    assert found.mean == pytest.approx(((0.2 + 0.4) / 2 + 0.7) / 2)
    assert found.std == pytest.approx(0.1 / 2**0.5)  # of 0.4 and 0.5; seed 2 is not every pair's


def test_texts():
    assert mean_and_std([]) is None
    assert mean_and_std([("a", 3, 0.723)]).text() == "72.3"
    assert mean_and_std([("a", 0, 0.5), ("a", 1, 0.5)]).text() == "50.0 ± 0.0"
    assert MeanStd(0.5, 0.0123).text() == "50.0 ± 1.2"


@pytest.mark.parametrize(("right", "rows"), [(0, 1), (1, 1), (15, 20), (20, 20), (0, 20), (700, 1000)])
def test_the_interval_is_scipys(right, rows):
    wanted = binomtest(right, rows).proportion_ci(0.95, "wilson")
    assert wilson_interval(right / rows, rows) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_the_interval_as_it_is_told():
    assert describe_labelled_rows(0.75, 20, 281) == "20 labelled of 281 rows, 95% interval 53.1 to 88.8"
