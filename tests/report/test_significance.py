"""Gains: the one mean and spread of differences, and Student's test for paired samples by hand."""

from math import sqrt
from statistics import mean, stdev

import pytest
from scipy.stats import t as student

from unimos_pipe.report.significance import PairedDifference, paired_difference


def test_mean_spread_and_test_by_hand():
    rows = [("a", 0, 0.70, 0.6), ("a", 1, 0.72, 0.6), ("b", 0, 0.55, 0.5), ("b", 1, 0.59, 0.5)]
    found = paired_difference(rows)
    apart = [ours - other for _, _, ours, other in rows]
    statistic = mean(apart) / (stdev(apart) / sqrt(4))
    assert found.mean == pytest.approx(0.09) and found.spread == pytest.approx(stdev([0.075, 0.105]))
    assert found.p == pytest.approx(2 * student.sf(statistic, 3)) and found.significant


@pytest.mark.parametrize(
    ("rows", "p"),
    [
        ([("a", 0, 0.7, 0.6)], None),  # one run proves nothing
        ([("a", 0, 0.7, 0.7), ("a", 1, 0.6, 0.6)], None),
        ([("a", 0, 0.75, 0.5), ("b", 0, 0.75, 0.5)], 0.0),  # the same gain twice
    ],
)
def test_few_and_equal_differences(rows, p):
    assert paired_difference(rows).p == p


def test_a_gain_within_the_spread_or_by_chance_is_not_sure():
    assert paired_difference([]) is None
    assert [
        PairedDifference(0.1, 0.05, 0.01).significant,
        PairedDifference(0.1, 0.2, 0.01).significant,
        PairedDifference(0.1, 0.05, 0.06).significant,
        PairedDifference(0.1).significant,
    ] == [*(True, False, False, False)]
    assert PairedDifference(-0.1, None, 0.01).significant
