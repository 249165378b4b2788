"""CLIP distillation: a linear head on the target that learns zero-shot's sharpened probabilities.

Multinomial logistic regression with C = 10 on the target's rows, whose targets are softmax(z / 0.3), z = 100 x mu^T
the zero-shot logits. The penalty keeps the head
from copying the prompts: similar rows share what it learns. The source is not read.
"""

import torch

from unimos_pipe.methods import zero_shot
from unimos_pipe.methods.base import LinearModel, MethodOutput
from unimos_pipe.methods.logistic_regression import minimise_cross_entropy
from unimos_pipe.methods.task import AdaptationTask

TEMPERATURE = 0.3


@torch.no_grad()
def fit(task: AdaptationTask) -> MethodOutput:
    """Predictions of the distilled head for the target."""
    rows = task.target.features
    targets = (zero_shot.fit(task).logits / TEMPERATURE).softmax(-1)
    start = rows.new_zeros(rows.shape[1] + 1, len(task.text_features))
    parameters = minimise_cross_entropy(rows, targets, torch.ones_like(rows[:, 0]), start)
    return LinearModel(parameters[:-1], parameters[-1]).predict_target(task)
