"""ZLaP: label propagation over prompts and target rows (Stojnic et al., arXiv 2404.04072).

Nodes are the K prompts and the n target rows. Edges from each row: cosine to its 4 nearest other rows (the 5 nearest
counting itself, whose own edge is dropped) and cosine^5 to the 5 nearest prompts; negative cosines are 0. The matrix
is made symmetric, A + A^T, and normalised, D^-1/2 (.) D^-1/2, where a node without edges keeps degree 1. Solve
(I - 0.3 A) Z = [I_K; 0] by conjugate gradients, sparse and in float64; the answer is the argmax of the rows' part.

The probabilities are each row's Z over its sum; a row that no prompt reaches answers all classes alike.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from unimos_pipe.base.errors import ExecutionError
from unimos_pipe.methods.base import FLOOR, MethodOutput
from unimos_pipe.methods.knn import find_neighbours
from unimos_pipe.methods.task import AdaptationTask

if TYPE_CHECKING:  # scipy.sparse takes a fifth of a second to import
    from scipy.sparse import csr_array

NEIGHBOURS = 5  # a row itself among them; prompts too
POWER = 5
ALPHA = 0.3
TOLERANCE = 1e-10  # of a residual, relative to its right side
MAX_STEPS = 100  # the matrix has eigenvalues in [0.7, 1.3]: about 15 are needed


def build_graph(rows: Tensor, text: Tensor) -> "csr_array":
    """Return the normalised symmetric matrix A, (K + n, K + n) float64: prompts first."""
    from scipy.sparse import coo_array, diags_array

    row_cosines, row_indices = find_neighbours(rows, NEIGHBOURS - 1)
    text_cosines, text_indices = (rows @ text.mT).topk(min(NEIGHBOURS, len(text)))
    nodes = np.arange(len(rows)) + len(text)
    weights = torch.cat([row_cosines.clamp_min(0), text_cosines.clamp_min(0) ** POWER], 1).double().cpu().numpy()
    ends = torch.cat([row_indices + len(text), text_indices], 1).cpu().numpy()
    starts = np.broadcast_to(nodes[:, None], ends.shape)
    size = len(text) + len(rows)
    edges = coo_array((weights.ravel(), (starts.ravel(), ends.ravel())), shape=(size, size)).tocsr()
    edges = edges + edges.T
    degrees = edges.sum(0)
    roots = diags_array(1 / np.sqrt(np.where(degrees > 0, degrees, 1)))
    return (roots @ edges @ roots).tocsr()


def propagate(edges: "csr_array", classes: int) -> np.ndarray:
    """Return the rows' part (n, K) of Z.

    Raises:
        ExecutionError: conjugate gradients did not converge.
    """
    from scipy.sparse import eye_array
    from scipy.sparse.linalg import cg

    size = edges.shape[0]
    system = (eye_array(size, format="csr") - ALPHA * edges).tocsr()
    scores = np.empty((size - classes, classes))
    for column in range(classes):
        right = np.zeros(size)
        right[column] = 1
        solution, code = cg(system, right, rtol=TOLERANCE, maxiter=MAX_STEPS)
        if code:
            raise ExecutionError(f"zlap: conjugate gradients did not converge in {MAX_STEPS} steps")
        scores[:, column] = solution[classes:]
    return scores


def fit(task: AdaptationTask) -> MethodOutput:
    """Propagate labels and predict the target."""
    rows, text = task.target.features, task.text_features
    scores = propagate(build_graph(rows, text), len(text))
    sums = scores.sum(1, keepdims=True)
    reached = sums > 0
    shares = np.where(reached, scores / np.where(reached, sums, 1), 1 / len(text))
    return MethodOutput(torch.from_numpy(np.log(shares.clip(FLOOR))).to(rows))
