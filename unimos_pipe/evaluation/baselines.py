"""Reference baselines on the same cached features: source-only and target-supervised probes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unimos_pipe.base.atomic_io import write_text
from unimos_pipe.base.dataclass_parsing import fingerprint
from unimos_pipe.base.progress import NO_PROGRESS, ProgressReporter
from unimos_pipe.base.safe_open import read_json
from unimos_pipe.evaluation.metrics import score_predictions
from unimos_pipe.methods.task import AdaptationTask, HeldOutLabels, PairData

FOLDS = 5


def fit_source_probe(task: AdaptationTask):
    """Fit a multinomial logistic regression (scikit-learn, C = 10) on unit-norm source features and labels."""
    from unimos_pipe.methods.source_probe import fit_source_regression  # scikit-learn takes a second to import

    return fit_source_regression(task.source)


def score_source_only(probe, task: AdaptationTask, held_out: HeldOutLabels) -> float | None:
    """Return the data set's published metric of a source-only probe on the scored rows; None without labels."""
    if held_out.labels is None:
        return None
    return _score(probe.predict(held_out.rows(task).cpu().numpy()), held_out)


def score_target_probe(task: AdaptationTask, held_out: HeldOutLabels, seed: int = 0) -> float | None:
    """Return the metric of probes fitted on the scored rows' labels by 5-fold cross-validation: an oracle.

    None if a row has no label or there are fewer than 5 rows.
    """
    from sklearn.model_selection import KFold

    if held_out.labels is None or len(held_out.labelled) < max(FOLDS, len(held_out.labels)):
        return None
    features, labels = held_out.rows(task).cpu().numpy(), held_out.labels
    predictions = np.empty_like(labels)
    for fitted, tested in KFold(FOLDS, shuffle=True, random_state=seed).split(features):
        predictions[tested] = _fit_probe(features[fitted], labels[fitted]).predict(features[tested])
    return _score(predictions, held_out)


def _score(predictions: np.ndarray, held_out: HeldOutLabels) -> float:
    return getattr(score_predictions(torch.from_numpy(predictions), held_out), held_out.metric)


def _fit_probe(features: np.ndarray, labels: np.ndarray):
    from unimos_pipe.methods.source_probe import fit_logistic_regression  # scikit-learn takes a second to import

    return fit_logistic_regression(features, labels)


def measure_baselines(
    pairs: dict[str, PairData], file: Path, *, fit: bool = True, reporter: ProgressReporter = NO_PROGRESS
) -> dict[str, dict[str, Any]]:
    """Return both baselines of every pair, by ``source->target``; those in ``file`` of equal inputs are reused.

    Probes are fitted once per source and once per target.

    Args:
        fit: fit missing probes, which takes minutes at DomainNet's size. False returns only the stored ones.
    """
    try:
        stored = read_json(file) if file.is_file() else {}
    except (ValueError, RecursionError):
        stored = {}
    identities = {
        name: fingerprint([pair.shard_digests, pair.scored_labels, pair.held_out.metric, FOLDS])
        for name, pair in pairs.items()
    }
    baselines = {name: stored[name] for name in pairs if stored.get(name, {}).get("identity") == identities[name]}
    if fit and len(baselines) < len(pairs):
        for name, scores in _measure_missing({name: pairs[name] for name in pairs if name not in baselines}, reporter):
            baselines[name] = {**scores, "identity": identities[name]}
            baselines = {pair: baselines[pair] for pair in pairs if pair in baselines}
            write_text(file, json.dumps(baselines, indent=1) + "\n")  # at once: the next one may take minutes
    return baselines


def _measure_missing(
    pairs: dict[str, PairData], reporter: ProgressReporter
) -> Iterator[tuple[str, dict[str, float | None]]]:
    """Yield both baselines of each pair; each probe is fitted once."""
    targets = {name: (pair.task.target.name, pair.held_out.features is None) for name, pair in pairs.items()}
    sources = {name: pair.task.source.name for name, pair in pairs.items()}
    probes, oracles = {}, {}
    with reporter.progress("probes", len({*sources.values()}) + len({*targets.values()}), "fits") as advance:
        for name, pair in pairs.items():
            source, target = sources[name], targets[name]
            if source not in probes:
                probes[source] = fit_source_probe(pair.task)
                advance(1)
            if target not in oracles:
                oracles[target] = score_target_probe(pair.task, pair.held_out)
                advance(1)
            scores = {
                "source_only": score_source_only(probes[source], pair.task, pair.held_out),
                "target_probe_oracle": oracles[target],
            }
            yield name, scores
