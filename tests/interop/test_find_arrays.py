"""Normalisation of imported features."""

import numpy as np
import pytest

from unimos_pipe.base.errors import InputError
from unimos_pipe.interop import find_arrays
from unimos_pipe.interop.find_arrays import normalize_rows

NORMS = np.array([0.5, 0.9989, 0.9991, 1.0, 1.0009, 1.0011, 3.0])


def rows_of_norm(norms: np.ndarray) -> np.ndarray:
    directions = np.random.default_rng(0).normal(size=(len(norms), 5))
    return directions * (norms / np.linalg.norm(directions, axis=1))[:, None]


def test_rows_of_almost_unit_norm_are_kept_bit_by_bit_and_all_others_divided():
    """Within 0.001 of 1 a norm is float16 rounding."""
    features = rows_of_norm(NORMS)
    unit, norm_range = normalize_rows(features, np.float64, "x")
    near = np.abs(NORMS - 1) < 1e-3
    assert near.tolist() == [False, False, True, True, True, False, False]
    assert unit[near].tobytes() == features[near].tobytes()
    assert np.abs(np.linalg.norm(unit[~near], axis=1) - 1).max() <= 8 * np.finfo(np.float64).eps  # 5 squares and a root
    assert norm_range == [0.5, 3.0]


def test_blocks_of_rows_change_nothing(monkeypatch):
    features = rows_of_norm(NORMS)
    whole = normalize_rows(features, np.float16, "x")
    monkeypatch.setattr(find_arrays, "BLOCK_ROWS", 2)
    unit, norm_range = normalize_rows(features, np.float16, "x")
    assert unit.tobytes() == whole[0].tobytes() and norm_range == whole[1]
    features[5] = 0
    with pytest.raises(InputError, match=r"^x: row 5 \(counted from 0\) is zero, which has no direction$"):
        normalize_rows(features, np.float16, "x")
