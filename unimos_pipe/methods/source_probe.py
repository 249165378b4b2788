"""Source probe: a linear probe of the source, which knows nothing of target or prompts.

Multinomial logistic regression on unit-norm source rows and labels, L2 penalty with C = 10 (scikit-learn; the linear
probe of CLIP, Radford et al., arXiv 2103.00020). Its logits p are the decision values, K columns always: for two
classes with source rows (-d/2, d/2), and -inf for a class without source rows, which is never answered.
"""

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch

from unimos_pipe.base.errors import InputError
from unimos_pipe.methods.base import LinearModel, MethodOutput
from unimos_pipe.methods.logistic_regression import C, row_weights
from unimos_pipe.methods.task import AdaptationTask, LabelledFeatures

if TYPE_CHECKING:  # scikit-learn takes a second to import
    from sklearn.linear_model import LogisticRegression

MAX_ITERATIONS = 1000


def fit_logistic_regression(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None, intercept: bool = True
) -> "LogisticRegression":
    """The fitted scikit-learn probe of (n, D) rows with (n,) labels and (n,) row weights (None: all one).

    Raises:
        InputError: fewer than two classes among the labels.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if len(classes := np.unique(labels)) < 2:
        raise InputError("labels to fit a probe on", expected="at least 2 classes", got=len(classes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="The number of unique classes")  # few images per class
        probe = LogisticRegression(C=C, max_iter=MAX_ITERATIONS, fit_intercept=intercept)
        return probe.fit(features, labels, weights)


def fit_source_regression(source: LabelledFeatures, intercept: bool = True) -> "LogisticRegression":
    """Fit the probe of a source with equally weighted domains. Raises as :func:`fit_logistic_regression`."""
    weighted = source.weights is not None or source.origins is not None
    weights = row_weights(source).double().cpu().numpy() if weighted else None
    return fit_logistic_regression(source.features.cpu().numpy(), source.labels.cpu().numpy(), weights, intercept)


def fit_probe(task: AdaptationTask, intercept: bool = True) -> LinearModel:
    """Fit the probe of a task's source as a linear model, in the dtype and on the device of the task.

    Args:
        task: only its source and the number of classes are used. Several source domains have equal weight.
        intercept: False: no bias is fitted; it is 0 where it is not -inf.

    Raises:
        InputError: the source has rows of fewer than two classes.
    """
    source = task.source
    probe = fit_source_regression(source, intercept)
    slopes = torch.as_tensor(probe.coef_).to(source.features)
    offsets = torch.as_tensor(probe.intercept_).to(source.features).expand(len(slopes))
    if len(slopes) == 1:  # scikit-learn keeps d alone
        slopes, offsets = torch.cat([-slopes / 2, slopes / 2]), torch.cat([-offsets / 2, offsets / 2])
    present = torch.as_tensor(probe.classes_, device=slopes.device)
    weight = slopes.new_zeros(slopes.shape[1], len(task.text_features))
    bias = slopes.new_full((len(task.text_features),), -torch.inf)
    weight[:, present] = slopes.mT
    bias[present] = offsets
    return LinearModel(weight, bias)


def fit(task: AdaptationTask) -> MethodOutput:
    """Fit the source probe and predict the target."""
    return fit_probe(task).predict_target(task)
