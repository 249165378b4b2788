"""Paired differences: tests over pairs by hand and by scipy, Holm's correction, the rate of false positives."""

from math import sqrt
from statistics import mean, stdev

import numpy as np
import pytest
from scipy import stats

from unimos_pipe.report.significance import LEVEL, PairedDifference, holm, paired_difference


def test_mean_spread_interval_and_tests_over_pairs():
    rows = [("a", 0, 0.70, 0.6), ("a", 1, 0.72, 0.6), ("b", 0, 0.55, 0.5), ("b", 1, 0.59, 0.5), ("c", 0, 0.5, 0.52)]
    difference = paired_difference(rows)
    pairs = [0.11, 0.07, -0.02]  # a pair's seeds are averaged first
    half = stats.t.ppf(0.975, 2) * stdev(pairs) / sqrt(3)
    assert difference.by_pair == pytest.approx(pairs) and difference.mean == pytest.approx(mean(pairs))
    assert difference.interval == pytest.approx((mean(pairs) - half, mean(pairs) + half))
    assert difference.p == pytest.approx(stats.ttest_1samp(pairs, 0).pvalue)
    assert difference.p_wilcoxon == pytest.approx(stats.wilcoxon(pairs).pvalue)


def test_one_pair_has_an_interval_over_seeds_and_no_test():
    seeds = [0.10, 0.13, 0.07]
    difference = paired_difference([("a", seed, 0.6 + value, 0.6) for seed, value in enumerate(seeds)])
    half = stats.t.ppf(0.975, 2) * stdev(seeds) / sqrt(3)
    assert difference.interval == pytest.approx((0.1 - half, 0.1 + half))
    assert difference.p is None and difference.p_wilcoxon is None
    lone = paired_difference([("a", 0, 0.7, 0.6)])
    assert lone.interval is None and lone.p is None and paired_difference([]) is None


@pytest.mark.parametrize(("by_pair", "p"), [((0.0, 0.0), 1.0), ((0.25, 0.25), 0.0)])
def test_equal_differences(by_pair, p):
    assert PairedDifference(by_pair[0], None, by_pair).p == p


def test_methods_without_seeds_are_tested():
    rng = np.random.default_rng(0)
    gains = rng.normal(0.02, 0.01, 12)
    difference = paired_difference([(str(pair), 0, 0.7 + gain, 0.7) for pair, gain in enumerate(gains)])
    assert difference.p == pytest.approx(stats.ttest_1samp(gains, 0).pvalue) and difference.p < LEVEL


def test_holm_is_that_of_the_textbook():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Holm 1979, by hand
    assert holm([0.5, 0.6]) == [1.0, 1.0] and holm([]) == []


@pytest.mark.parametrize("seeds", [1, 10])
def test_without_an_effect_one_table_in_twenty_is_significant(seeds):
    """Differences of 12 pairs with sd 1.0 over pairs and 0.3 over seeds, none of them an effect.

    1,000 tables put the rate's standard error at 0.69 points, so that 2.9 to 7.1% is three of them on either side; the
    test over pairs and seeds as independent had 25.9% with three seeds and 54% with ten.
    """
    rng = np.random.default_rng(7)
    effects = rng.normal(0, 1.0, (1000, 12, 1)) + rng.normal(0, 0.3, (1000, 12, seeds))
    tables = [
        paired_difference((str(pair), seed, value, 0.0) for (pair, seed), value in np.ndenumerate(table))
        for table in effects
    ]
    assert 0.029 <= sum(table.p < LEVEL for table in tables) / 1000 <= 0.071
    assert 0.929 <= sum(table.interval[0] <= 0 <= table.interval[1] for table in tables) / 1000 <= 0.971


def test_holm_holds_the_rate_over_nine_comparisons_of_a_table():
    rng = np.random.default_rng(8)
    p_values = stats.ttest_1samp(rng.normal(0, 1, (4000, 9, 12)), 0, axis=2).pvalue
    assert sum(min(holm(list(family))) < LEVEL for family in p_values) / 4000 <= 0.06  # 36% without the correction
