"""Linear heads of transductive methods: a model of new rows that predicts the target's rows as the method does.

A transductive method predicts only the rows it was fitted on. A linear head is fitted to its logits, standardised as
one part of :func:`unimos_pipe.methods.auto.fit_head`'s average, with one standard deviation more for each row's own
class: without it the head of zlap, whose logits are nearly flat, differs on up to 12% of the rows.
"""

import functools

import torch.nn.functional as F

from unimos_pipe.methods.auto import fit_head
from unimos_pipe.methods.base import Fit, MethodOutput
from unimos_pipe.methods.ensemble3 import average_logits
from unimos_pipe.methods.task import AdaptationTask


def with_linear_head(fit: Fit) -> Fit:
    """Return the transductive method with a linear head as its model; its own predictions of the target stay."""

    @functools.wraps(fit)
    def fit_with_head(task: AdaptationTask) -> MethodOutput:
        output = fit(task)
        own_class = F.one_hot(output.classes, output.logits.shape[1])
        head = fit_head(task, average_logits([output.logits]) + own_class)
        return MethodOutput(output.logits, head)

    return fit_with_head
