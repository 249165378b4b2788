"""Label-free validators: scores that select an epoch without target labels.

Each takes ensemble probabilities P (n, K) or bottleneck features (n, H); higher is better. A new one is a function, an
entry in :func:`validator_tensors`, and a name in :mod:`unimos_pipe.runs.validator_names`. Validators from outside the
package are called with both.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from unimos_pipe.base.errors import InputError
from unimos_pipe.base.plugins import VALIDATORS, find_outside, outside_names
from unimos_pipe.methods.unimos.losses import entropy
from unimos_pipe.runs.validator_names import epoch_validators

SND_TEMPERATURE = 0.05
SND_ROWS = 1024
SND_BLOCK = 256


@torch.no_grad()
def validator_tensors(probabilities: Tensor, bottleneck: Tensor) -> dict[str, Tensor]:
    """Return the inputs of :func:`validator_scores` on the device, without synchronising with it."""
    return {
        "im": information_maximisation(probabilities),
        "entropy": negative_entropy(probabilities),
        "gram": gram_matrix(probabilities),
        "snd": soft_neighbourhood_density(bottleneck),
        **{name: _outside_score(name, probabilities, bottleneck) for name in outside_names(VALIDATORS)},
    }


def _outside_score(name: str, probabilities: Tensor, features: Tensor) -> Tensor:
    """Return the score of a validator from outside the package. Raises InputError if it is not one number."""
    score = torch.as_tensor(find_outside(VALIDATORS, name).score(probabilities, features))
    if score.numel() != 1:
        raise InputError(f"score of validator {name}", expected="one number", got=f"a tensor of {tuple(score.shape)}")
    return score.double().reshape(())


def validator_scores(tensors: Mapping[str, Tensor], rows: int, classes: int) -> dict[str, float]:
    """Return all validator scores by name, from :func:`validator_tensors` on the CPU."""
    scores = {**tensors, "bnm": nuclear_norm(tensors["gram"], rows, classes)}
    return {name: float(scores[name]) for name in epoch_validators() if name in scores}


def information_maximisation(probabilities: Tensor) -> Tensor:
    """Entropy of the mean prediction minus mean entropy, in nats (Bridle et al. 1991; Shi and Sha, ICML 2012)."""
    return entropy(probabilities.mean(0)) - entropy(probabilities).mean()


def negative_entropy(probabilities: Tensor) -> Tensor:
    """Minus the mean entropy of the predictions, in nats (Morerio et al., ICLR 2018)."""
    return -entropy(probabilities).mean()


def gram_matrix(probabilities: Tensor) -> Tensor:
    """Return P^T P in float64, or P P^T if that is smaller."""
    n, classes = probabilities.shape
    tall = probabilities if classes <= n else probabilities.mT
    return sum(part.mT @ part for part in (rows.double() for rows in tall.split(8192)))


def nuclear_norm(gram: Tensor, rows: int, classes: int) -> Tensor:
    """Nuclear norm of P divided by its upper bound, sqrt(n min(n, K)) (BNM: Cui et al., CVPR 2020).

    The singular values come from P's :func:`gram_matrix`, which costs one product instead of an (n, K) SVD.
    """
    squares = torch.linalg.eigvalsh(gram)
    return squares.clamp_min(0).sqrt().sum() / (rows * min(rows, classes)) ** 0.5


def soft_neighbourhood_density(features: Tensor) -> Tensor:
    """Mean entropy of each row's soft neighbours at temperature 0.05 (SND: Saito et al., ICCV 2021).

    Features are normalised; at most 1,024 evenly spaced rows are used. A row is not its own neighbour. Similarities are
    symmetric and are computed once: a block of rows is compared with itself and the rows after it.
    """
    rows = torch.linspace(0, len(features) - 1, min(len(features), SND_ROWS), device=features.device).round().long()
    unit = F.normalize(features[rows], dim=-1)
    mass, weighted = unit.new_zeros(2, len(unit))
    for start in range(0, len(unit), SND_BLOCK):
        stop = start + SND_BLOCK
        similarity = (unit[start:stop] / SND_TEMPERATURE) @ unit[start:].mT
        similarity -= 1 / SND_TEMPERATURE  # at most 0, so that no exponential overflows
        neighbours = similarity.exp().fill_diagonal_(0)
        for sums, values in ((mass, neighbours), (weighted, neighbours * similarity)):
            sums[start:stop] += values.sum(1)
            sums[stop:] += values[:, SND_BLOCK:].sum(0)
    return (mass.log() - weighted / mass).mean()


@torch.no_grad()
def rank_me(features: Tensor) -> Tensor:
    """Effective rank of (n, H) features: exp of the entropy of their normalised singular values.

    RankMe: Garrido et al., ICML 2023, arXiv 2210.02885. The singular values come from the features' Gram matrix.
    """
    values = torch.linalg.eigvalsh(gram_matrix(features)).clamp_min(0).sqrt()
    shares = values / values.sum() + 1e-7
    return (-(shares * shares.log()).sum()).exp()
