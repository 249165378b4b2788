"""Deep Embedded Validation: target risk from held-out source rows, weighted by the ratio of the domains' densities.

DEV: You et al., ICML 2019. The ratio is that of the encoder's features, so that all runs of a pair are compared by
similar weights; the paper takes the features of the model that it validates.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from unimos_pipe.methods.base import FLOOR
from unimos_pipe.methods.logistic_regression import domain_balanced_weights, fit_logistic_regression
from unimos_pipe.methods.task import LabelledFeatures
from unimos_pipe.methods.unimos.training_run import TrainingRun

MAX_ROWS = 10_000  # of each domain, evenly spaced, for the regression


@dataclass(frozen=True)
class WeightedSourceRows:
    """(m,) labels of held-out source rows, and (m,) density ratios, target over source, at these rows."""

    labels: Tensor
    ratios: Tensor

    @classmethod
    def of_run(cls, run: TrainingRun) -> "WeightedSourceRows | None":
        """Return those of a run; None if it holds out no source rows."""
        held_out, task = run.held_out_source, run.task
        if held_out is None:
            return None
        ratios = density_ratios(task.source.features, task.target.features, held_out.features)
        return cls(held_out.labels, ratios)

    def score(self, probabilities: Tensor) -> Tensor:
        """Return minus the estimated cross-entropy on the target, of (m, K) probabilities of these rows."""
        losses = -probabilities.gather(1, self.labels.unsqueeze(1)).squeeze(1).clamp_min(FLOOR).log()
        return -weighted_risk(losses, self.ratios)


@torch.no_grad()
def density_ratios(source: Tensor, target: Tensor, rows: Tensor) -> Tensor:
    """Return the (m,) ratios of target to source density at (m, D) rows, by a logistic regression of the domain.

    Args:
        source, target: (n, D) rows of each domain; of more than 10,000, that many are used. Both domains count the
            same.
    """
    parts = [_spaced_rows(source), _spaced_rows(target)]
    domains = torch.cat([torch.full_like(part[:, 0], k, dtype=torch.int64) for k, part in enumerate(parts)])
    rows_by_domain = LabelledFeatures(torch.cat(parts), domains)
    model = fit_logistic_regression(rows_by_domain, 2, domain_balanced_weights(domains).to(rows))
    logits = model.logits(rows)
    return (logits[:, 1] - logits[:, 0]).exp()


def _spaced_rows(features: Tensor) -> Tensor:
    count = min(len(features), MAX_ROWS)
    return features[torch.linspace(0, len(features) - 1, count, device=features.device).round().long()]


def weighted_risk(losses: Tensor, weights: Tensor) -> Tensor:
    """Return mean(w l) + e (mean(w) - 1) with the control variate e = -cov(w l, w) / var(w).

    Args:
        losses: (m,) l of each row.
        weights: (m,) w of each row, whose expectation is 1.
    """
    weighted = weights * losses
    deviations = weights - weights.mean()
    variance = deviations.square().sum()
    factor = -(deviations * weighted).sum() / variance if variance > 0 else weights.new_zeros(())
    return weighted.mean() + factor * (weights.mean() - 1)
