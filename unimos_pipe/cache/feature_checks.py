"""Checks of features: finite, of unit norm, and not all equal."""

from collections.abc import Sequence

import numpy as np

NORM_TOLERANCE = 1e-2  # float16 keeps the norm of a unit vector within 1e-3
ALIKE = 2.0**-11  # half a unit in float16's last place at 1
MAX_ALIKE = 8  # images that may well have one feature


def count_non_unit(features: np.ndarray) -> int:
    """Return the number of rows of (n, D) features that are not of unit norm or not finite."""
    norms = np.linalg.norm(features.astype(np.float32), axis=1)
    return int(np.sum(~(np.abs(norms - 1) < NORM_TOLERANCE)))


def image_fault(features: np.ndarray, contents: np.ndarray, paths: Sequence[str]) -> str | None:
    """Why (n, D) features of images whose contents have (n, 16) digests cannot be those of an encoder, or None."""
    if count_non_unit(features):
        norms = np.linalg.norm(features.astype(np.float32), axis=1)
        row = int(np.argmax(~(np.abs(norms - 1) < NORM_TOLERANCE)))
        return f"the encoder's feature of {paths[row]}: expected unit norm, got {norms[row]}"
    images = len({row.tobytes() for row in np.asarray(contents)})
    return f"the encoder gives one feature for {images} images" if images > MAX_ALIKE and are_alike(features) else None


def text_fault(features: np.ndarray) -> str | None:
    """Why (K, D) text features tell no classes apart, or None."""
    if wrong := count_non_unit(features):
        return f"are not finite or not of unit norm ({wrong} of {len(features)})"
    return f"are all alike ({len(features)} classes)" if are_alike(features) else None


def are_alike(features: np.ndarray) -> bool:
    """Return True if all rows of (n, D) features, n > 1, are equal up to float16 rounding."""
    return len(features) > 1 and bool(np.all(np.abs(features - features[:1].astype(np.float32)) < ALIKE))
