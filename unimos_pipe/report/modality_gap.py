"""Modality gap: distances between text, image, VAC and LAC features, as numbers and as t-SNE maps."""

from collections.abc import Mapping, Sequence

import numpy as np
from threadpoolctl import threadpool_limits

from unimos_pipe.report.experiment import Experiment, FinishedRun
from unimos_pipe.report.setting_names import format_pair
from unimos_pipe.report.table import Cell, Table, name_cell
from unimos_pipe.runs.statistics import mean_and_std

MAP_ROWS = 150  # most rows of each kind in a map; 400 take four times as long
MAP_COMPONENTS = 32  # principal components of a map's rows
MAP_ITERATIONS = 400
TENSORS = ("target_image", "target_vac", "target_lac", "text")
SIDES = ("source", "target")
GAPS = {  # column -> the two tensors
    "image–text": ("target_image", "text"),
    "LAC–text": ("target_lac", "text"),
    "VAC–text": ("target_vac", "text"),
    "VAC–LAC": ("target_vac", "target_lac"),
}


def normalise_rows(features: np.ndarray) -> np.ndarray:
    """Return (n, D) rows scaled to unit norm; rows of zeros stay."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def measure_gap(first: np.ndarray, second: np.ndarray) -> float:
    """Return the distance, 0 to 2, between the means of two sets of rows, (n, D) and (m, D), after normalisation.

    The modality gap of Liang et al., "Mind the Gap" (NeurIPS 2022).
    """
    return float(np.linalg.norm(normalise_rows(first).mean(0) - normalise_rows(second).mean(0)))


def measure_run_gaps(run: FinishedRun) -> dict[str, float]:
    """Return the gaps of :data:`GAPS` in a run's sample, by column."""
    arrays = run.tensors(*TENSORS)
    return {column: measure_gap(arrays[first], arrays[second]) for column, (first, second) in GAPS.items()}


def gap_table(experiment: Experiment) -> Table:
    """Return the table of gaps of each pair, means over seeds."""
    gaps_by_pair = {
        pair: [(run.spec.seed, measure_run_gaps(run)) for run in experiment.select(pair)] for pair in experiment.pairs
    }

    def row(name: str, pairs: Sequence[str]) -> tuple[Cell, ...]:
        cells = (
            _distance_cell([(pair, seed, gaps[column]) for pair in pairs for seed, gaps in gaps_by_pair[pair]])
            for column in GAPS
        )
        return (name_cell(name), *cells)

    pairs = experiment.pairs
    return Table(
        "gap",
        f"Modality gap, {experiment.default_setting_name}",
        "Distance (0 to 2) between the means of two kinds of unit-norm features of the target's sample, ± standard "
        "deviation over seeds. Image–text is the gap of CLIP's features, before separation. After separation LAC "
        "should be closer to the text than VAC, and VAC far from LAC.",
        ("pair", "image–text (before)", "LAC–text", "VAC–text", "VAC–LAC"),
        tuple(row(format_pair(pair), [pair]) for pair in pairs),
        (row(f"mean of {len(pairs)}", pairs),) if len(pairs) > 1 else (),
    )


def _distance_cell(values: Sequence[tuple[str, int, float]]) -> Cell:
    mean = mean_and_std(values)
    spread = "" if mean.std is None else f" ± {mean.std:.2f}"
    return Cell(f"{mean.mean:.2f}{spread}", mean.mean, mean.std, "number")


def tsne(groups: Mapping[str, np.ndarray], seed: int = 0) -> dict[str, np.ndarray]:
    """Return one joint t-SNE of several sets of rows, each scaled to unit norm, so that distance measures angle.

    Args:
        groups: name -> (n, D); at most :data:`MAP_ROWS` rows are used (see :func:`evenly_spaced`).
    Returns:
        name -> (m, 2) positions of the used rows.
    """
    from sklearn.manifold import TSNE  # takes a second to import

    selected = {name: normalise_rows(rows[evenly_spaced(len(rows))]) for name, rows in groups.items()}
    stacked = np.concatenate(list(selected.values())).astype(np.float32)
    perplexity = min(30.0, max(2.0, (len(stacked) - 1) / 3))
    embedding = TSNE(init="pca", perplexity=perplexity, max_iter=MAP_ITERATIONS, random_state=seed)
    with threadpool_limits(1):
        positions = embedding.fit_transform(principal_components(stacked, MAP_COMPONENTS))
    ends = np.cumsum([len(rows) for rows in selected.values()])
    return dict(zip(selected, np.split(positions, ends[:-1]), strict=True))


def principal_components(rows: np.ndarray, count: int) -> np.ndarray:
    """Return the (n, m) coordinates of (n, D) rows along the directions of largest variance, at most ``count``."""
    left, scales, _ = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    return (left * scales)[:, :count]


def evenly_spaced(count: int) -> np.ndarray:
    """Return the indices of at most :data:`MAP_ROWS` evenly spaced rows of ``count``."""
    return np.linspace(0, count - 1, min(count, MAP_ROWS)).round().astype(int)


def modality_features(run: FinishedRun) -> dict[str, np.ndarray]:
    """Return the target's ``image``, ``VAC`` and ``LAC`` features and the ``text`` features of a run's sample."""
    arrays = run.tensors(*TENSORS)
    return dict(zip(("image", "VAC", "LAC", "text"), map(arrays.get, TENSORS), strict=True))


def bottleneck_features(run: FinishedRun, stage: str) -> dict[str, np.ndarray]:
    """Return the ``source`` and ``target`` bottleneck features of a run's sample, ``before`` or ``after`` training."""
    arrays = run.tensors(*(f"{side}_bottleneck_{stage}" for side in SIDES))
    return {side: arrays[f"{side}_bottleneck_{stage}"] for side in SIDES}


def bottleneck_classes(run: FinishedRun) -> dict[str, list[str | None]]:
    """Return the class of each row of a bottleneck map, by domain; None if a target row has no known class.

    An inductive run stores labels of the test rows only, but its sample is of the training rows.
    """
    arrays = run.tensors("source_labels", "target_rows")
    source = [run.classes[k] for k in arrays["source_labels"][evenly_spaced(len(arrays["source_labels"]))].tolist()]
    rows = arrays["target_rows"][evenly_spaced(len(arrays["target_rows"]))].tolist()
    if run.result.protocol == "inductive":
        return {"source": source, "target": [None] * len(rows)}
    return {"source": source, "target": [run.predictions[row].get("label") or None for row in rows]}
