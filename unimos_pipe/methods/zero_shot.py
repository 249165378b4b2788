"""Zero-shot CLIP (Radford et al., arXiv 2103.00020): prompts only, nothing is fitted.

z = 100 x mu^T, with x (n, D) unit image rows and mu (K, D) unit prompts; models that learned their own scale, such as
SigLIP, use it instead of 100.
"""

from unimos_pipe.methods.base import LinearModel, MethodOutput
from unimos_pipe.methods.task import AdaptationTask


def build_classifier(task: AdaptationTask) -> LinearModel:
    """Return the prompts as a linear model."""
    text = task.text_features
    return LinearModel(task.logit_scale * text.mT, text.new_zeros(len(text)))


def fit(task: AdaptationTask) -> MethodOutput:
    """Predict the target by zero-shot."""
    return build_classifier(task).predict_target(task)
