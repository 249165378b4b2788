"""The modality gap: how far text, image, VAC and LAC features lie apart, as numbers and as t-SNE maps."""

from collections.abc import Mapping, Sequence

import numpy as np

from unimos_pipe.report.experiment import Experiment, FinishedRun
from unimos_pipe.report.table import Cell, Table, name_cell
from unimos_pipe.runs.statistics import mean_and_std

MAP_ROWS = 400  # of each kind in a map: more take minutes and show no more
TENSORS = ("target_image", "target_vac", "target_lac", "text")
GAPS = {  # column -> the two kinds
    "image–text": ("target_image", "text"),
    "LAC–text": ("target_lac", "text"),
    "VAC–text": ("target_vac", "text"),
    "VAC–LAC": ("target_vac", "target_lac"),
}


def normalise_rows(features: np.ndarray) -> np.ndarray:
    """(n, D) rows scaled to length one; rows of zeros stay."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def measure_gap(first: np.ndarray, second: np.ndarray) -> float:
    """Distance between the means of two sets of unit-norm rows, (n, D) and (m, D); 0 to 2.

    The modality gap of Liang et al., "Mind the Gap" (NeurIPS 2022).
    """
    return float(np.linalg.norm(normalise_rows(first).mean(0) - normalise_rows(second).mean(0)))


def measure_run_gaps(run: FinishedRun) -> dict[str, float]:
    """Every gap of :data:`GAPS` in a run's sample."""
    arrays = run.tensors(*TENSORS)
    return {column: measure_gap(arrays[first], arrays[second]) for column, (first, second) in GAPS.items()}


def gap_table(experiment: Experiment) -> Table:
    """The gaps of every pair before and after separation, means over seeds."""
    gaps_by_pair = {
        pair: [(run.spec["seed"], measure_run_gaps(run)) for run in experiment.select(pair)]
        for pair in experiment.pairs
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
        f"The gap as a number, {experiment.default_setting_name}",
        "Distance between the mean directions of two kinds of features of the target's sample (0 to 2), ± over seeds. "
        "Image–text is CLIP's own gap, before separation; the others are after it: LAC should lie nearer to the text "
        "than VAC does, and VAC and LAC apart.",
        ("pair", "image–text (before)", "LAC–text", "VAC–text", "VAC–LAC"),
        tuple(row(pair.replace("->", " → "), [pair]) for pair in pairs),
        (row(f"mean of {len(pairs)}", pairs),) if len(pairs) > 1 else (),
    )


def _distance_cell(values: Sequence[tuple[str, int, float]]) -> Cell:
    mean = mean_and_std(values)
    spread = "" if mean.std is None else f" ± {mean.std:.2f}"
    return Cell(f"{mean.mean:.2f}{spread}", mean.mean, mean.std, "distance")


def tsne(groups: Mapping[str, np.ndarray], seed: int = 0) -> dict[str, np.ndarray]:
    """One joint t-SNE of several sets of rows, each scaled to length one, so that distance means angle.

    Args:
        groups: name -> (n, D); of more than :data:`MAP_ROWS` rows, evenly spaced ones are taken (see :func:`spaced`).
    Returns:
        name -> (m, 2) positions, in the order of the rows taken.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    selected = {name: normalise_rows(rows[evenly_spaced(len(rows))]) for name, rows in groups.items()}
    stacked = np.concatenate(list(selected.values())).astype(np.float32)
    components = min(32, *stacked.shape)
    reduced = PCA(components, random_state=seed).fit_transform(stacked)
    perplexity = min(30.0, max(2.0, (len(stacked) - 1) / 3))
    positions = TSNE(init="pca", perplexity=perplexity, max_iter=600, random_state=seed).fit_transform(reduced)
    ends = np.cumsum([len(rows) for rows in selected.values()])
    return dict(zip(selected, np.split(positions, ends[:-1]), strict=True))


def evenly_spaced(count: int) -> np.ndarray:
    """Positions of at most :data:`MAP_ROWS` evenly spaced rows of ``count``."""
    return np.linspace(0, count - 1, min(count, MAP_ROWS)).round().astype(int)


def modality_positions(run: FinishedRun) -> dict[str, np.ndarray]:
    """t-SNE of the target's image, VAC and LAC features and the text features, by those names."""
    arrays = run.tensors(*TENSORS)
    return tsne(
        {
            "image": arrays["target_image"],
            "VAC": arrays["target_vac"],
            "LAC": arrays["target_lac"],
            "text": arrays["text"],
        }
    )


def bottleneck_positions(run: FinishedRun, stage: str) -> dict[str, np.ndarray]:
    """t-SNE of bottleneck features, ``before`` or ``after`` training, of both domains: source and target."""
    arrays = run.tensors(f"source_bottleneck_{stage}", f"target_bottleneck_{stage}")
    return tsne({side: arrays[f"{side}_bottleneck_{stage}"] for side in ("source", "target")})


def bottleneck_classes(run: FinishedRun) -> dict[str, list[str | None]]:
    """The class of every row of a bottleneck map, by side; None where the target's are not known.

    An inductive run stores answers and labels of the test rows, and its sample is of the train rows.
    """
    arrays = run.tensors("source_labels", "target_rows")
    source = [run.classes[k] for k in arrays["source_labels"][evenly_spaced(len(arrays["source_labels"]))].tolist()]
    rows = arrays["target_rows"][evenly_spaced(len(arrays["target_rows"]))].tolist()
    if run.result.get("protocol") == "inductive":
        return {"source": source, "target": [None] * len(rows)}
    return {"source": source, "target": [run.predictions[row].get("label") or None for row in rows]}
