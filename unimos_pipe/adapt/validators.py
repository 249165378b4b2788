"""Label-free validators: scores of a run's view of its target that may pick an epoch without target labels.

Each takes ensemble probabilities P (n, K) or bottleneck features (n, H); higher is better for all.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from unimos_pipe.methods.unimos.losses import entropy

SND_TEMPERATURE = 0.05
SND_ROWS = 1024


@torch.no_grad()
def validators(probabilities: Tensor, bottleneck: Tensor) -> dict[str, float]:
    """All validators of one assessment by name."""
    return {
        "im": float(information_maximisation(probabilities)),
        "entropy": float(negative_entropy(probabilities)),
        "bnm": float(nuclear_norm(probabilities)),
        "snd": float(soft_neighbourhood_density(bottleneck)),
    }


def information_maximisation(probabilities: Tensor) -> Tensor:
    """Entropy of the mean prediction minus mean entropy, in nats (Bridle et al. 1991; Shi and Sha, ICML 2012)."""
    return entropy(probabilities.mean(0)) - entropy(probabilities).mean()


def negative_entropy(probabilities: Tensor) -> Tensor:
    """Minus the mean entropy of the predictions, in nats (Morerio et al., ICLR 2018)."""
    return -entropy(probabilities).mean()


def nuclear_norm(probabilities: Tensor) -> Tensor:
    """Nuclear norm of P over its largest possible value, sqrt(n min(n, K)) (BNM: Cui et al., CVPR 2020).

    The singular values come from the K x K Gram matrix in float64, which costs one product instead of an (n, K) SVD.
    """
    n, classes = probabilities.shape
    tall = probabilities if classes <= n else probabilities.mT
    gram = sum(part.mT @ part for part in (rows.double() for rows in tall.split(8192)))
    squares = torch.linalg.eigvalsh(gram)
    return squares.clamp_min(0).sqrt().sum() / (n * min(n, classes)) ** 0.5


def soft_neighbourhood_density(features: Tensor) -> Tensor:
    """Mean entropy of each row's soft neighbours at temperature 0.05 (SND: Saito et al., ICCV 2021).

    Features are made unit norm; at most 1,024 evenly spaced rows enter. A row is no neighbour of itself.
    """
    rows = torch.linspace(0, len(features) - 1, min(len(features), SND_ROWS), device=features.device).round().long()
    unit = F.normalize(features[rows], dim=-1)
    similarity = unit @ unit.mT / SND_TEMPERATURE
    similarity.fill_diagonal_(float("-inf"))
    log_neighbours = similarity.log_softmax(-1)
    neighbours = log_neighbours.exp()
    return -(neighbours * log_neighbours.clamp_min(-1e4)).sum(-1).mean()
