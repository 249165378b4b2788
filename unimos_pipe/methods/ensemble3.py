"""ensemble3: fused, statistical anchors from fused, and linear-im, averaged.

Each method's log-probabilities (clamped at log 1e-8), minus their mean over classes, are divided by their standard
deviation over all entries; its logits are the mean of the three. Ours. What is averaged has deviation one, so that raw
probabilities are flat; a temperature makes them mean something.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from unimos_pipe.methods import fused, linear_im, stata
from unimos_pipe.methods.base import FLOOR, MethodOutput
from unimos_pipe.methods.task import AdaptationTask


def average_logits(logits_by_method: Sequence[Tensor]) -> Tensor:
    """Return (n, K) logits of the mean prediction, from the logits (n, K) of each method."""
    parts = [fused.center(logits.log_softmax(-1).clamp_min(math.log(FLOOR))) for logits in logits_by_method]
    return torch.stack([part / fused.std(part).clamp_min(fused.TINY) for part in parts]).mean(0)


def fit(task: AdaptationTask) -> MethodOutput:
    """Fit the three methods and predict the target by their mean.

    Raises:
        InputError: the source has rows of fewer than two classes.
    """
    return average_outputs(task, fused.fit(task), linear_im.fit(task))


def average_outputs(task: AdaptationTask, fused_output: MethodOutput, linear_output: MethodOutput) -> MethodOutput:
    """Return the mean prediction of fused, of statistical anchors from it, and of linear-im."""
    start = fused_output.logits
    anchors = stata.fit_from_logits(task, start).logits
    return MethodOutput(average_logits([start, anchors, linear_output.logits]))
