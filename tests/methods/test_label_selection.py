"""Rows to label, in small examples."""

import pytest
import torch

from unimos_pipe.base.errors import InputError
from unimos_pipe.methods.label_selection import choose_rows, compute_margins, least_sure_rows

FEATURES = torch.tensor([[1.0, 0], [0.995, 0.1], [0.99, 0.14], [0, 1], [0.1, 0.995], [0.14, 0.99]])
PROBABILITIES = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.45, 0.55], [0.51, 0.49]])
ZERO_SHOT = torch.tensor([0, 0, 1, 0, 1, 0])


def choose(way: str, count: int, candidates=(0, 1, 2, 3, 4, 5), seed: int = 0) -> list[int]:
    return choose_rows(way, FEATURES, PROBABILITIES, ZERO_SHOT, torch.tensor(candidates), count, seed).tolist()


def test_margins():
    torch.testing.assert_close(compute_margins(PROBABILITIES), torch.tensor([0.8, 0.2, 0.4, 0.6, 0.1, 0.02]))


@pytest.mark.parametrize(
    ("way", "count", "candidates", "rows"),
    [
        ("margin", 3, (0, 1, 2, 3, 4, 5), [5, 4, 1]),
        ("margin", 2, (0, 2, 3), [2, 3]),
        ("disagreement", 4, (0, 1, 2, 3, 4, 5), [2, 3, 5, 4]),
        ("coverage", 2, (0, 1, 2, 3, 4, 5), [5, 1]),  # the least sure of 3 to 5 and of 0 to 2
        ("coverage", 9, (0, 1, 2), [1, 2, 0]),
        ("margin", 9, (3,), [3]),
    ],
)
def test_ways(way, count, candidates, rows):
    assert choose(way, count, candidates) == rows


def test_random_rows_follow_the_seed():
    assert sorted(choose("random", 6)) == [0, 1, 2, 3, 4, 5]
    assert choose("random", 3) == choose("random", 6)[:3] != choose("random", 3, seed=1)


def test_the_least_sure_row_of_each_cluster():
    margins, clusters = torch.tensor([0.5, 0.1, 0.3, 0.2]), torch.tensor([2, 0, 0, 2])
    assert least_sure_rows(margins, clusters).tolist() == [1, 3]


def test_an_unknown_way():
    with pytest.raises(InputError) as error:
        choose("best", 1)
    expected = "expected margin, disagreement, coverage, random, got best"
    assert str(error.value) == f"way to choose images: {expected}"
