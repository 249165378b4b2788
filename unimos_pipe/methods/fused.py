"""Fused: zero-shot and source probe on one scale, averaged. Nothing is trained beyond the probe.

l = (c(z) + c(p) sd(c(z)) / sd(c(p))) / 2, with z the zero-shot logits, p the source probe's, c(a) = a minus its mean
over classes (row by row) and sd(a) the standard deviation over all entries, of the target's rows. Both deviations are
in the model's weights, so that new rows are answered alike. A class without source rows is never answered and stays
out of c and sd.

It lives on both parts being of use: where zero-shot is far behind the probe it loses to the probe.
"""

import torch
from torch import Tensor

from unimos_pipe.base.method_config import CLIP_LOGIT_SCALE
from unimos_pipe.methods import source_probe, zero_shot
from unimos_pipe.methods.base import LinearModel, MethodOutput, present_classes
from unimos_pipe.methods.task import AdaptationTask

TINY = 1e-12  # a probe with constant logits adds nothing


def center(values: Tensor, dim: int = -1) -> Tensor:
    """c(a): subtract the mean over the classes, which are along ``dim``."""
    return values - values.mean(dim, keepdim=True)


def std(values: Tensor) -> Tensor:
    """sd(a): the standard deviation over all entries."""
    return values.std(correction=0)


def fit(task: AdaptationTask) -> MethodOutput:
    """Fit fused zero-shot and source-probe predictions.

    Raises:
        InputError: the source has rows of fewer than two classes.
    """
    return fit_model(task).predict_target(task)


def fit_model(task: AdaptationTask, probe: LinearModel | None = None) -> LinearModel:
    """Fit the linear model of fused zero-shot and source-probe predictions.

    Args:
        task: the pair; target labels are not used.
        probe: probe of its source, if already fitted.
    Raises:
        InputError: the source has rows of fewer than two classes.
    """
    probe, present = probe or source_probe.fit_probe(task), present_classes(task)
    text_weight = center(zero_shot.build_classifier(task).weight[:, present])
    probe_weight, probe_bias = center(probe.weight[:, present]), center(probe.bias[present])
    scale = probe_scale(task, probe)
    weight, bias = torch.zeros_like(probe.weight), torch.full_like(probe.bias, -torch.inf)
    weight[:, present] = (text_weight + scale * probe_weight) / 2
    bias[present] = scale * probe_bias / 2
    return LinearModel(weight, bias)


def probe_scale(task: AdaptationTask, probe: LinearModel) -> Tensor:
    """sd(c(z)) / sd(c(p)) over the target's rows and the classes with source rows."""
    present, rows = present_classes(task), task.target.features
    text_logits, probe_logits = (
        center(model.logits(rows)[:, present]) for model in (zero_shot.build_classifier(task), probe)
    )
    return std(text_logits) / std(probe_logits).clamp_min(TINY)


def fused_text_features(task: AdaptationTask, probe: LinearModel) -> Tensor:
    """mu' (K, D), prompts that have seen the source, for UniMoS's variant ``fused-teacher``; not of unit norm.

    mu' = (c(mu) + (s / 100) c(w)) / 2, with mu the prompts, w (K, D) the source probe fitted without intercept, c =
    minus the mean over classes, s = sd(100 x c(mu)^T) / sd(x c(w)^T) over the target's rows. Ours, not the UniMoS
    paper's. A class without source rows keeps its prompt's part alone.

    Args:
        task: the pair; no target label enters.
        probe: of its source, without intercept.
    """
    present = present_classes(task)
    slopes = probe.weight.mT
    slopes = torch.where(present.unsqueeze(-1), slopes - slopes[present].mean(0), 0)
    text = center(task.text_features, dim=0)
    rows = task.target.features
    scale = std(CLIP_LOGIT_SCALE * rows @ text.mT) / std(rows @ slopes.mT).clamp_min(TINY)
    return (text + scale / CLIP_LOGIT_SCALE * slopes) / 2
