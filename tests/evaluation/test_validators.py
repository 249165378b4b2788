"""Validators at hand-worked cases."""

import math

import pytest
import torch

from unimos_pipe.evaluation.validators import (
    gram_matrix,
    information_maximisation,
    negative_entropy,
    nuclear_norm,
    soft_neighbourhood_density,
    validator_scores,
    validator_tensors,
)
from unimos_pipe.runs.validator_names import EPOCH_VALIDATORS

# float64: 1e-12 is some thousand epsilons, 1e-9 some million; 1e-4 is for the 1e-5 that logarithms are shifted by.
pytestmark = pytest.mark.numerical
SURE = torch.eye(3, dtype=torch.float64).repeat(2, 1)  # six sure rows, balanced over three classes
EVEN = torch.full((6, 3), 1 / 3, dtype=torch.float64)


def nuclear_norm_of(probabilities):
    return nuclear_norm(gram_matrix(probabilities), *probabilities.shape)


def test_sure_and_balanced_answers_score_highest():
    assert float(information_maximisation(SURE)) == pytest.approx(math.log(3), abs=1e-4)
    assert float(information_maximisation(EVEN)) == pytest.approx(0, abs=1e-12)
    assert float(negative_entropy(EVEN)) == pytest.approx(-math.log(3), abs=1e-4)
    assert float(negative_entropy(SURE)) == pytest.approx(0, abs=1e-4)


def test_nuclear_norm_by_hand_and_by_svd():
    assert float(nuclear_norm_of(SURE)) == pytest.approx(1.0, rel=1e-12)  # the largest there is
    assert float(nuclear_norm_of(EVEN)) == pytest.approx(math.sqrt(2) / math.sqrt(18), rel=1e-6)  # one value, sqrt(6/3)
    p = torch.rand(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(nuclear_norm_of(p)) == pytest.approx(float(torch.linalg.svdvals(p).sum()) / math.sqrt(28), rel=1e-9)
    wide = float(nuclear_norm_of(p.T))
    assert wide * 4 == pytest.approx(float(nuclear_norm_of(p)) * math.sqrt(28), rel=1e-9)


def test_soft_neighbourhood_density_by_hand():
    """Four rows in two tight pairs at a right angle: a row's neighbours are its twin and, e^-20 apart, two others."""
    rows = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]], dtype=torch.float64)
    weights = [math.exp(20), 1, 1]
    shares = [weight / sum(weights) for weight in weights]
    wanted = -sum(share * math.log(share) for share in shares)
    assert float(soft_neighbourhood_density(3 * rows)) == pytest.approx(wanted, rel=1e-6)
    same = torch.ones(5, 2, dtype=torch.float64)
    assert float(soft_neighbourhood_density(same)) == pytest.approx(math.log(4), rel=1e-9)


def test_soft_neighbourhood_density_in_blocks_equals_a_loop_over_rows():
    features = torch.randn(600, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    unit = features / features.norm(dim=-1, keepdim=True)
    entropies = []
    for row in range(600):
        others = torch.cat([unit[:row], unit[row + 1 :]])
        shares = (others @ unit[row] / 0.05).softmax(-1)
        entropies.append(-float((shares * shares.log()).nan_to_num(0).sum()))
    assert float(soft_neighbourhood_density(features)) == pytest.approx(sum(entropies) / 600, rel=1e-9)


def test_all_validators_by_name():
    bottleneck = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = validator_scores(validator_tensors(SURE, bottleneck), 6, 3)
    assert [*found, "source", "dev"] == list(EPOCH_VALIDATORS) == ["im", "entropy", "bnm", "snd", "source", "dev"]
    assert found["bnm"] == pytest.approx(1.0) and all(math.isfinite(value) for value in found.values())
