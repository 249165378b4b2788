"""Label-free scores of settings, from the folders of their runs: what settings can be selected by."""

from collections.abc import Mapping, Sequence
from statistics import mean

import numpy as np

from unimos_pipe.runs.read_run import FinishedRun
from unimos_pipe.runs.validator_names import ENSV

Scores = dict[str, dict[str, float]]  # label -> pair -> mean over seeds
Candidates = Mapping[str, Mapping[str, Sequence[FinishedRun]]]  # label -> pair -> runs, equal pairs for every label


def select_setting(candidates: Candidates, validator: str) -> str | None:
    """Return the label that a validator scores highest in the mean of the pairs; None where a run has no score."""
    scores = validator_scores(candidates).get(validator)
    return max(scores, key=lambda label: mean(scores[label].values())) if scores else None


def gather_candidates(runs: Sequence[FinishedRun], labels: Sequence[str]) -> dict[str, dict[str, list[FinishedRun]]]:
    """Return label -> pair -> runs, over the pairs that every label has."""
    candidates: dict[str, dict[str, list[FinishedRun]]] = {label: {} for label in labels}
    for run in runs:
        if run.label in candidates:
            candidates[run.label].setdefault(run.pair, []).append(run)
    pairs = [pair for pair in candidates[labels[0]] if all(pair in own for own in candidates.values())]
    return {label: {pair: own[pair] for pair in pairs} for label, own in candidates.items()}


def validator_scores(candidates: Candidates) -> dict[str, Scores]:
    """Return validator -> label -> pair -> score of the last epoch: of validators that all runs have, and EnsV.

    EnsV compares predictions row by row, so it is left out if the runs differ in protocol and so in evaluated rows.
    """
    every = [run for by_pair in candidates.values() for same in by_pair.values() for run in same]
    names = list(every[0].result.validators) if every else []
    names = [name for name in names if all(name in run.result.validators for run in every)]
    scores: dict[str, Scores] = {
        name: {
            label: {pair: mean(run.result.validators[name] for run in same) for pair, same in by_pair.items()}
            for label, by_pair in candidates.items()
        }
        for name in names
    }
    if len({run.spec.protocol for run in every}) > 1:
        return scores
    pairs = next(iter(candidates.values()), {})
    by_pair = {pair: ensv_scores({label: own[pair] for label, own in candidates.items()}) for pair in pairs}
    return {**scores, ENSV: {label: {pair: by_pair[pair][label] for pair in pairs} for label in candidates}}


def ensv_scores(runs: Mapping[str, Sequence[FinishedRun]]) -> dict[str, float]:
    """Return each candidate's share of rows on which it agrees with the mean of all candidates.

    EnsV averages the candidates' probabilities. Of each row a run's folder has the class and its probability; the rest
    is spread evenly over the other classes here.

    Args:
        runs: each candidate's runs of one pair, over which its probabilities are averaged.
    """
    probabilities = {label: sum(_probabilities(run) for run in same) for label, same in runs.items()}
    votes = sum(probabilities.values()).argmax(1)
    return {label: float((own.argmax(1) == votes).mean()) for label, own in probabilities.items()}


def _probabilities(run: FinishedRun) -> np.ndarray:
    """(n, K) probabilities, as far as predictions.csv tells them."""
    ids = {name: position for position, name in enumerate(run.classes)}
    rows = run.predictions
    column = "raw_probability" if "raw_probability" in rows[0] else "probability"
    top = np.array([float(row[column]) for row in rows], np.float32)
    classes = np.array([ids[row.get("known_class", row["class"])] for row in rows])
    probabilities = np.repeat(((1 - top) / max(1, len(ids) - 1))[:, None], len(ids), axis=1)
    probabilities[np.arange(len(rows)), classes] = top
    return probabilities
