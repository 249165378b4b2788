"""Zero-shot CLIP (Radford et al., arXiv 2103.00020): the prompts alone, nothing is fitted.

z = 100 x mu^T, with x (n, D) unit image rows and mu (K, D) unit prompts; in the place of 100 what a model learned by
itself, as SigLIP's kin do.
"""

from unimos_pipe.methods.base import LinearModel, MethodOutput
from unimos_pipe.methods.task import AdaptationTask


def build_classifier(task: AdaptationTask) -> LinearModel:
    """The prompts as a linear model."""
    text = task.text_features
    return LinearModel(task.logit_scale * text.mT, text.new_zeros(len(text)))


def fit(task: AdaptationTask) -> MethodOutput:
    """Zero-shot answers to the target."""
    return build_classifier(task).predict_target(task)
