"""Nearest neighbours by cosine, computed in blocks of rows without an n x n matrix."""

import torch
from torch import Tensor

BLOCK = 2**25  # most similarities held at once: 128 MiB in float32


@torch.no_grad()
def find_neighbours(features: Tensor, count: int, of_rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the ``count`` nearest other rows of each of (n, D) unit-norm rows, or of (m,) of them by number.

    Returns:
        Cosines (m, k) and row numbers (m, k), nearest first; k is ``count``, or n - 1 if there are fewer rows. A row is
        not its own neighbour; its duplicates are.
    """
    rows = len(features)
    of_rows = torch.arange(rows, device=features.device) if of_rows is None else of_rows
    cosines, indices = [], []
    for block in of_rows.split(max(1, BLOCK // rows)):
        similarity = features[block] @ features.mT
        similarity[torch.arange(len(block), device=block.device), block] = -torch.inf
        nearest = similarity.topk(min(count, rows - 1))
        cosines.append(nearest.values)
        indices.append(nearest.indices)
    return torch.cat(cosines), torch.cat(indices)
