"""t-SNE maps: rows in two dimensions, near ones near each other. In numpy: scikit-learn takes a second to import.

van der Maaten and Hinton, "Visualizing Data using t-SNE" (JMLR 2008). Schedule and defaults are scikit-learn's:
early exaggeration, momentum, gains and learning rate, and neighbours in place of all rows in the probabilities.
Distances on the map are exact instead of Barnes-Hut's, which is faster for the some hundred rows of a map.
"""

import numpy as np

PERPLEXITY = 30.0
ITERATIONS = 400
EXPLORATION = 150  # iterations with exaggerated probabilities and little momentum; with 250 the maps fit less well
EXAGGERATION = 12.0
PRECISION_STEPS = 50  # halvings of the interval of a row's precision


def tsne_map(rows: np.ndarray) -> np.ndarray:
    """Return the (n, 2) map of (n, D) rows, D at least 2, centred and float32. It starts at their first two columns.

    These should be the rows' principal components. Equal rows give equal maps; no random numbers are used.
    """
    count = len(rows)
    probabilities = neighbour_probabilities(squared_distances(rows), min(PERPLEXITY, max(2.0, (count - 1) / 3)))
    exaggerated = (EXAGGERATION * probabilities).astype(np.float32)
    probabilities = probabilities.astype(np.float32)
    places = (rows[:, :2] * (1e-4 / max(rows[:, 0].std(), 1e-12))).astype(np.float32)
    change, gains = np.zeros_like(places), np.ones_like(places)
    rate = max(count / EXAGGERATION / 4, 50.0)
    for iteration in range(ITERATIONS):
        explores = iteration < EXPLORATION
        gradient = _gradient(places, exaggerated if explores else probabilities)
        gains = np.maximum(np.where(change * gradient < 0, gains + 0.2, gains * 0.8), 0.01)
        change = (0.5 if explores else 0.8) * change - rate * gains * gradient
        places += change
    return places - places.mean(0)


def neighbour_probabilities(distances: np.ndarray, perplexity: float) -> np.ndarray:
    """Return the joint probabilities of (n, n) squared distances, symmetric with a sum of 1 and zeros on the diagonal.

    A row's probabilities are Gaussian in the distance to its 3 ``perplexity`` + 1 nearest other rows. Its precision
    gives them the entropy log(``perplexity``), or the closest that is possible.
    """
    count = len(distances)
    others = distances + np.diag(np.full(count, np.inf))
    near = np.argsort(others, axis=1, kind="stable")[:, : min(count - 1, int(3 * perplexity + 1))]
    offsets = np.take_along_axis(others, near, axis=1)
    offsets -= offsets[:, :1]
    low, high, precision = np.zeros((count, 1)), np.full((count, 1), np.inf), np.ones((count, 1))
    for _ in range(PRECISION_STEPS):
        weights = np.exp(-precision * offsets)
        totals = weights.sum(1, keepdims=True)
        entropy = np.log(totals) + precision * (weights * offsets).sum(1, keepdims=True) / totals
        too_flat = entropy > np.log(perplexity)
        low, high = np.where(too_flat, precision, low), np.where(too_flat, high, precision)
        precision = np.where(np.isinf(high), 2 * precision, (low + high) / 2)
    conditional = np.zeros((count, count))
    np.put_along_axis(conditional, near, weights / totals, axis=1)
    return (conditional + conditional.T) / (2 * count)


def squared_distances(rows: np.ndarray) -> np.ndarray:
    """Return the (n, n) squared Euclidean distances of (n, D) rows."""
    norms = (rows.astype(float) ** 2).sum(1)
    return np.maximum(norms[:, None] + norms - 2 * (rows @ rows.T), 0)


def _gradient(places: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the (n, 2) gradient of the Kullback-Leibler divergence by the places of a map."""
    norms, ones = (places**2).sum(1, keepdims=True), np.ones((len(places), 1), places.dtype)
    kernel = np.hstack([-2 * places, norms + 1, ones]) @ np.hstack([places, ones, norms]).T  # 1 + squared distances
    np.reciprocal(kernel, out=kernel)
    np.fill_diagonal(kernel, 0)
    forces = kernel * (-1 / kernel.sum())
    forces += probabilities
    forces *= kernel
    return 4 * (forces.sum(1, keepdims=True) * places - forces @ places)
