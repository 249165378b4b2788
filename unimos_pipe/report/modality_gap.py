"""The modality gap: how far text, image, VAC and LAC features lie apart, as numbers and as t-SNE maps."""

from collections.abc import Mapping, Sequence

import numpy as np

from unimos_pipe.report.experiment import Experiment, FinishedRun
from unimos_pipe.report.table import Cell, Table, name_cell
from unimos_pipe.runs.statistics import mean_and_std

MAP_ROWS = 400  # of each kind in a map: more take minutes and show no more
NAMES = ("target_image", "target_vac", "target_lac", "text")
GAPS = {  # column -> the two kinds
    "image–text": ("target_image", "text"),
    "LAC–text": ("target_lac", "text"),
    "VAC–text": ("target_vac", "text"),
    "VAC–LAC": ("target_vac", "target_lac"),
}


def unit(features: np.ndarray) -> np.ndarray:
    """(n, D) rows scaled to length one; rows of zeros stay."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def measure_gap(first: np.ndarray, second: np.ndarray) -> float:
    """Distance between the means of two sets of unit-norm rows, (n, D) and (m, D); 0 to 2.

    The modality gap of Liang et al., "Mind the Gap" (NeurIPS 2022).
    """
    return float(np.linalg.norm(unit(first).mean(0) - unit(second).mean(0)))


def run_gaps(run: FinishedRun) -> dict[str, float]:
    """Every gap of :data:`GAPS` in a run's sample."""
    arrays = run.tensors(*NAMES)
    return {column: measure_gap(arrays[one], arrays[other]) for column, (one, other) in GAPS.items()}


def gap_table(experiment: Experiment) -> Table:
    """The gaps of every pair before and after separation, means over seeds."""
    found = {pair: [(run.spec["seed"], run_gaps(run)) for run in experiment.select(pair)] for pair in experiment.pairs}

    def row(name: str, pairs: Sequence[str]) -> tuple[Cell, ...]:
        cells = (_distance([(pair, seed, gaps[of]) for pair in pairs for seed, gaps in found[pair]]) for of in GAPS)
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


def _distance(values: Sequence[tuple[str, int, float]]) -> Cell:
    found = mean_and_std(values)
    spread = "" if found.std is None else f" ± {found.std:.2f}"
    return Cell(f"{found.mean:.2f}{spread}", found.mean, found.std, "distance")


def tsne(groups: Mapping[str, np.ndarray], seed: int = 0) -> dict[str, np.ndarray]:
    """One joint t-SNE of several sets of rows, each scaled to length one, so that distance means angle.

    Args:
        groups: name -> (n, D); of more than :data:`MAP_ROWS` rows, evenly spaced ones are taken (see :func:`spaced`).
    Returns:
        name -> (m, 2) positions, in the order of the rows taken.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    taken = {name: unit(rows[spaced(len(rows))]) for name, rows in groups.items()}
    stacked = np.concatenate(list(taken.values())).astype(np.float32)
    parts = min(32, *stacked.shape)
    reduced = PCA(parts, random_state=seed).fit_transform(stacked)
    perplexity = min(30.0, max(2.0, (len(stacked) - 1) / 3))
    places = TSNE(init="pca", perplexity=perplexity, max_iter=600, random_state=seed).fit_transform(reduced)
    ends = np.cumsum([len(rows) for rows in taken.values()])
    return dict(zip(taken, np.split(places, ends[:-1]), strict=True))


def spaced(count: int) -> np.ndarray:
    """Positions of at most :data:`MAP_ROWS` evenly spaced rows of ``count``."""
    return np.linspace(0, count - 1, min(count, MAP_ROWS)).round().astype(int)


def modality_map(run: FinishedRun) -> dict[str, np.ndarray]:
    """t-SNE of the target's image, VAC and LAC features and the text features, by those names."""
    arrays = run.tensors(*NAMES)
    return tsne(
        {
            "image": arrays["target_image"],
            "VAC": arrays["target_vac"],
            "LAC": arrays["target_lac"],
            "text": arrays["text"],
        }
    )


def bottleneck_map(run: FinishedRun, when: str) -> dict[str, np.ndarray]:
    """t-SNE of bottleneck features, ``before`` or ``after`` training, of both domains: source and target."""
    arrays = run.tensors(f"source_bottleneck_{when}", f"target_bottleneck_{when}")
    return tsne({side: arrays[f"{side}_bottleneck_{when}"] for side in ("source", "target")})


def map_classes(run: FinishedRun) -> dict[str, list[str | None]]:
    """The class of every row of a bottleneck map, by side; None where the target's are not known.

    An inductive run stores answers and labels of the test rows, and its sample is of the train rows.
    """
    arrays = run.tensors("source_labels", "target_rows")
    source = [run.classes[k] for k in arrays["source_labels"][spaced(len(arrays["source_labels"]))].tolist()]
    rows = arrays["target_rows"][spaced(len(arrays["target_rows"]))].tolist()
    if run.result.get("protocol") == "inductive":
        return {"source": source, "target": [None] * len(rows)}
    return {"source": source, "target": [run.predictions[row].get("label") or None for row in rows]}
