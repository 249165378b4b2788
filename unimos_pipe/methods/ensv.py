"""EnsV: the candidate that agrees most often with the ensemble of all (Hu et al., NeurIPS 2024).

p = mean over candidates m of softmax(z_m); the score of m is the share of target rows with argmax z_m = argmax p. The
highest score is taken, the first of equals. The candidates are the linear methods in :data:`CANDIDATES`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from unimos_pipe.methods import fused, gda, linear_im, source_probe, stacked, zero_shot
from unimos_pipe.methods.accuracy_estimate import agreement_rate
from unimos_pipe.methods.base import MethodOutput
from unimos_pipe.methods.task import AdaptationTask

CANDIDATES = {
    "zero-shot": zero_shot,
    "source-probe": source_probe,
    "fused": fused,
    "stacked": stacked,
    "gda": gda,
    "linear-im": linear_im,
}


def ensemble_scores(logits: Sequence[Tensor]) -> list[float]:
    """Each candidate's score, from the logits (n, K) of all."""
    ensemble = torch.stack([each.softmax(-1) for each in logits]).mean(0).argmax(-1)
    return [agreement_rate(each.argmax(-1), ensemble) for each in logits]


def fit(task: AdaptationTask) -> MethodOutput:
    """Predictions of the candidate that is taken.

    Raises:
        InputError: the source has rows of fewer than two classes.
    """
    return select_output([candidate.fit(task) for candidate in CANDIDATES.values()])


def select_output(outputs: Sequence[MethodOutput]) -> MethodOutput:
    """Return the output of highest score, of all candidates' in order."""
    scores = ensemble_scores([output.logits for output in outputs])
    return outputs[scores.index(max(scores))]
