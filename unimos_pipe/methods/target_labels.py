"""Labels of target rows in training.

The labelled target rows join the source's rows. Together they weigh :data:`SHARE` times as much as the source. They are
centred by the target's mean, not by their own (:func:`unimos_pipe.methods.auto.center_task`). Statistical anchors start
from these labels in their rows. UniMoS draws them as often as each domain of the source, and they are the pseudo-labels
of their rows.
"""

import zlib
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from unimos_pipe.methods.base import MethodOutput
from unimos_pipe.methods.logistic_regression import FOLDS, row_weights
from unimos_pipe.methods.task import TAUGHT, AdaptationTask, LabelledFeatures, TargetLabels

SHARE = 0.3
CERTAIN = 20.0  # logit of a labelled row's class, 0 for the others


def join_target_labels(task: AdaptationTask) -> AdaptationTask:
    """Return the task with its labelled target rows among the source's; the task itself without target labels."""
    given, source = task.target_labels, task.source
    if given is None:
        return task
    taught = task.target.features[given.rows]
    digest = zlib.crc32(torch.cat([given.rows, given.labels]).cpu().numpy().tobytes())
    origins = torch.zeros_like(source.labels) if source.origins is None else source.origins
    weights = torch.cat(
        [row_weights(source), taught.new_full((len(taught),), SHARE * len(source.labels) / len(taught))]
    )
    joined = LabelledFeatures(
        torch.cat([source.features, taught]),
        torch.cat([source.labels, given.labels]),
        f"{source.name} and {len(taught)} rows of {task.target.name}, {digest:08x}",
        torch.cat([origins, torch.full_like(given.labels, TAUGHT)]),
        weights / weights.mean(),
    )
    return replace(task, source=joined)


def cross_fit_labelled_rows(task: AdaptationTask, fit: Callable[[AdaptationTask], MethodOutput]) -> Tensor:
    """Return (m, K) logits of the labelled target rows, each from a fit without the labels of its fold (of five).

    Args:
        fit: of a joined task.
    """
    given = task.target_labels
    order = torch.randperm(len(given.rows), generator=torch.Generator().manual_seed(0)).to(given.rows.device)
    logits = task.text_features.new_empty(len(given.rows), len(task.text_features))
    for fold in order.tensor_split(min(FOLDS, len(order))):
        kept = torch.ones_like(given.rows, dtype=torch.bool)
        kept[fold] = False
        others = TargetLabels(given.rows[kept], given.labels[kept]) if kept.any() else None
        output = fit(join_target_labels(replace(task, target_labels=others)))
        logits[fold] = output.logits[given.rows[fold]]
    return logits


def set_target_labels(task: AdaptationTask, logits: Tensor) -> Tensor:
    """Return (n, K) logits of the target's rows with those of the labels in the labelled rows."""
    given = task.target_labels
    if given is None:
        return logits
    changed = logits.clone()
    changed[given.rows] = CERTAIN * F.one_hot(given.labels, logits.shape[1]).to(logits)
    return changed
