"""A task from arrays of features, without a data set spec or a cache."""

from collections.abc import Sequence

import numpy as np
import torch

from unimos_pipe.base.errors import InputError, join_names
from unimos_pipe.methods.task import AdaptationTask, LabelledFeatures, UnlabelledFeatures, unit_rows


def task_from_arrays(
    source: tuple[np.ndarray, Sequence],
    target: np.ndarray,
    text: np.ndarray | None,
    classes: Sequence,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> AdaptationTask:
    """Build the task of a pair of domains from arrays.

    Args:
        source: (n, D) features and n labels, each one of ``classes``.
        target: (m, D) features.
        text: (K, D) features of the class prompts, in the order of ``classes``; None: the source's class means.
        classes: K distinct labels.
    Returns:
        A task with unit-norm features; its labels are positions in ``classes``.
    Raises:
        InputError: arrays of other shapes, values that are not finite, unknown labels, a class without rows if its mean
            is needed, or fewer than 2 rows or classes.
    """
    features, labels = source
    names = {name: position for position, name in enumerate(classes)}
    if len(names) < 2 or len(names) != len(classes):
        raise InputError("classes", expected="two or more different ones", got=join_names(classes))
    if unknown := sorted({str(label) for label in labels if label not in names}):
        raise InputError("the source's labels", expected=f"some of {join_names(classes)}", got=join_names(unknown))
    x = _check_rows("source", features, None)
    y = np.array([names[label] for label in labels], np.int64)
    if len(x) != len(y):
        raise InputError("the source's labels", expected=f"{len(x)} of them", got=len(y))
    if text is None:
        if absent := [str(name) for name, position in names.items() if position not in y]:
            raise InputError(
                f"the source has no rows of {join_names(absent)}, whose mean would stand for text; pass text"
            )
        unit = unit_rows(torch.from_numpy(x), torch.float64, torch.device("cpu"))
        text = np.stack([unit[y == position].mean(0).numpy() for position in range(len(names))])
    prompts = _check_rows("text", text, x.shape[1])
    if len(prompts) != len(names):
        raise InputError("the text features", expected=f"{len(names)} rows, one a class", got=len(prompts))
    torch_device = torch.device(device)
    rows = [
        unit_rows(torch.from_numpy(part), dtype, torch_device)
        for part in (x, _check_rows("target", target, x.shape[1]), prompts)
    ]
    return AdaptationTask(
        LabelledFeatures(rows[0], torch.from_numpy(y).to(torch_device)), UnlabelledFeatures(rows[1]), rows[2]
    )


def _check_rows(what: str, values: np.ndarray, dim: int | None) -> np.ndarray:
    """Return (n, D) finite float64 features. Raises InputError."""
    array = np.asarray(values)
    if array.ndim != 2 or array.dtype.kind not in "fiu" or (dim is not None and array.shape[1] != dim):
        expected = f"numbers of shape (n, {'D' if dim is None else dim})"
        raise InputError(f"the {what} features", expected=expected, got=f"{array.dtype} of shape {array.shape}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError(f"the {what} features", expected="finite numbers", got="NaN or infinity")
    return array
