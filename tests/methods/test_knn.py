"""Nearest rows against a full sort, in blocks of any size."""

import pytest
from factories.tasks import random_task

from unimos_pipe.methods import knn as module
from unimos_pipe.methods.knn import find_neighbours

# float64: cosines are sums of 16 terms, which round to 1e-15; 1e-12 is wide of that.
pytestmark = pytest.mark.numerical
ROWS = random_task().target.features  # (56, 16)


@pytest.mark.parametrize("block", [1, 56 * 5, 2**25])
def test_neighbours_are_the_first_of_a_full_sort_whatever_the_block(monkeypatch, block):
    monkeypatch.setattr(module, "BLOCK", block)
    cosines, indices = find_neighbours(ROWS, 3)
    for row in range(len(ROWS)):
        every = sorted(((float(ROWS[row] @ ROWS[j]), j) for j in range(len(ROWS)) if j != row), reverse=True)
        assert indices[row].tolist() == [j for _, j in every[:3]]
        assert cosines[row].tolist() == pytest.approx([cosine for cosine, _ in every[:3]], abs=1e-12)


def test_a_row_is_no_neighbour_of_itself_but_its_duplicates_are():
    rows = ROWS[[0, 0, 0, 1]]
    cosines, indices = find_neighbours(rows, 2)
    assert cosines[:3].flatten().tolist() == pytest.approx([1.0] * 6)
    assert [sorted(row) for row in indices[:3].tolist()] == [[1, 2], [0, 2], [0, 1]]


def test_fewer_rows_than_neighbours_give_all_the_others():
    cosines, indices = find_neighbours(ROWS[:3], 5)
    assert cosines.shape == (3, 2)
    assert [sorted(row) for row in indices.tolist()] == [[1, 2], [0, 2], [0, 1]]
