"""Choice of the target rows whose labels are worth the most.

Every way orders candidate rows and takes the first ones. The margin of a row is the difference of its two largest
probabilities; the least sure row has the smallest.

- random: any rows, so that the accuracy on them estimates that on all rows.
- margin: the least sure rows.
- disagreement: rows that zero-shot and the run predict differently, then the others; the least sure first.
- coverage: k-means with as many clusters as rows are wanted, on the features; the least sure row of each cluster.
"""

import warnings

import torch
from torch import Tensor

from unimos_pipe.base.errors import InputError, join_names
from unimos_pipe.runs.method_names import LABEL_CHOICES


def choose_rows(
    way: str, features: Tensor, probabilities: Tensor, zero_shot: Tensor, candidates: Tensor, count: int, seed: int = 0
) -> Tensor:
    """Return the numbers of at most ``count`` rows to label, the most useful first.

    Args:
        way: one of :data:`unimos_pipe.runs.method_names.LABEL_CHOICES`.
        features: (n, D) unit-norm rows.
        probabilities: (n, K) of the run.
        zero_shot: (n,) classes.
        candidates: (m,) numbers of the rows without a label.
        seed: of random and coverage.
    Raises:
        InputError: an unknown way.
    """
    if way not in LABEL_CHOICES:
        raise InputError("way to choose images", expected=join_names(LABEL_CHOICES), got=way)
    if way == "random":
        order = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(seed))
        return candidates[order.to(candidates.device)][:count]
    margins = compute_margins(probabilities)[candidates]
    if way == "coverage" and count < len(candidates):
        clusters = cluster_rows(features[candidates], count, seed)
        chosen = least_sure_rows(margins, clusters)
        return candidates[chosen[margins[chosen].argsort(stable=True)]]
    order = margins.argsort(stable=True)
    if way == "disagreement":
        same = (zero_shot == probabilities.argmax(-1))[candidates]
        order = order[same[order].to(torch.int8).argsort(stable=True)]
    return candidates[order][:count]


def compute_margins(probabilities: Tensor) -> Tensor:
    """Return the (n,) differences of each row's two largest probabilities (n, K)."""
    largest = probabilities.topk(2).values
    return largest[:, 0] - largest[:, 1]


def cluster_rows(features: Tensor, count: int, seed: int) -> Tensor:
    """Return the (m,) cluster of each of (m, D) rows, by k-means from one start."""
    from sklearn.cluster import KMeans  # importing scikit-learn takes a second
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
        clusters = KMeans(count, n_init=1, random_state=seed).fit_predict(features.float().cpu().numpy())
    return torch.from_numpy(clusters).long().to(features.device)


def least_sure_rows(margins: Tensor, clusters: Tensor) -> Tensor:
    """Return the number of the row with the smallest margin in each cluster, by cluster."""
    order = margins.argsort(stable=True)
    by_cluster = order[clusters[order].argsort(stable=True)]
    first = torch.ones_like(by_cluster, dtype=torch.bool)
    first[1:] = clusters[by_cluster][1:] != clusters[by_cluster][:-1]
    return by_cluster[first]
