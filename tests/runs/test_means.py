"""The one mean and spread."""

import pytest

from unimos_pipe.runs.means import MeanSpread, mean_and_spread


def test_means_go_over_runs_then_seeds_then_pairs():
    found = mean_and_spread([("a", 0, 0.1), ("a", 0, 0.3), ("a", 1, 0.4), ("b", 0, 0.6), ("b", 1, 0.6), ("b", 2, 0.9)])
    assert found.mean == pytest.approx(((0.2 + 0.4) / 2 + 0.7) / 2)
    assert found.spread == pytest.approx(0.1 / 2**0.5)  # of 0.4 and 0.5; seed 2 is not every pair's


def test_texts():
    assert mean_and_spread([]) is None
    assert mean_and_spread([("a", 3, 0.723)]).text() == "72.3"
    assert mean_and_spread([("a", 0, 0.5), ("a", 1, 0.5)]).text() == "50.0 ± 0.0"
    assert MeanSpread(0.5, 0.0123).text() == "50.0 ± 1.2"
