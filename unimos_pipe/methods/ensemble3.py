"""Trio: fused, statistical anchors from fused, and linear-im, averaged.

Each method's log-probabilities (clamped at log 1e-8), minus their mean over classes, are divided by their standard
deviation over all entries; the trio's logits are the mean of the three. Ours. What is averaged has deviation one, so
that raw probabilities are flat; a temperature makes them mean something.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from unimos_pipe.methods import fused, linear_im, stata
from unimos_pipe.methods.base import FLOOR, Answers
from unimos_pipe.methods.task import AdaptationTask


def averaged(every: Sequence[Tensor]) -> Tensor:
    """(n, K) logits of the mean answer, from the logits (n, K) of each method."""
    parts = [fused.centred(logits.log_softmax(-1).clamp_min(math.log(FLOOR))) for logits in every]
    return torch.stack([part / fused.spread(part).clamp_min(fused.TINY) for part in parts]).mean(0)


def fit(task: AdaptationTask) -> Answers:
    """The trio's answers to the target.

    Raises:
        UserError: the source has rows of fewer than two classes.
    """
    first = fused.fit(task).logits
    return Answers(averaged([first, stata.anchors(task, first).logits, linear_im.fit(task).logits]))
