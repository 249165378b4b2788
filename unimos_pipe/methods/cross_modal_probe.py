"""Cross-modal probe: the prompts' features are further labelled rows of the source probe (Lin et al., CVPR 2023).

Multinomial logistic regression with C = 10 on n source rows and K prompts, each prompt a row of its class with weight
one (arXiv 2301.06267 trains on both modalities' features with one head). A class without source rows has its prompt.
"""

import torch

from unimos_pipe.methods.base import LinearModel, MethodOutput
from unimos_pipe.methods.logistic_regression import fit_logistic_regression, row_weights
from unimos_pipe.methods.task import AdaptationTask, LabelledFeatures


def fit_model(task: AdaptationTask) -> LinearModel:
    """The probe of source and prompts; the target is not read."""
    source, text = task.source, task.text_features
    labels = torch.cat([source.labels, torch.arange(len(text), device=text.device)])
    rows = LabelledFeatures(torch.cat([source.features, text]), labels)
    weights = torch.cat([row_weights(source), text.new_ones(len(text))])
    return fit_logistic_regression(rows, len(text), weights=weights)


def fit(task: AdaptationTask) -> MethodOutput:
    """Predictions of the cross-modal probe for the target."""
    return fit_model(task).predict_target(task)
