"""Modality gap and maps on synthetic features with known results."""

import numpy as np
import pytest
from factories.runs import forge, write_run
from safetensors.numpy import save

from unimos_pipe.report.find_runs import find_runs
from unimos_pipe.report.modality_gap import (
    GAPS,
    bottleneck_classes,
    bottleneck_features,
    evenly_spaced,
    gap_table,
    measure_gap,
    modality_features,
    tsne,
)
from unimos_pipe.runs.read_run import RunFolderError


def cone(axis: int, count: int, rng, spread: float = 0.02, dim: int = 16) -> np.ndarray:
    """Rows around one axis, of any length."""
    rows = np.zeros((count, dim))
    rows[:, axis] = 1
    return ((rows + spread * rng.normal(size=rows.shape)) * rng.uniform(0.5, 3, (count, 1))).astype(np.float32)


def test_gap_is_the_distance_of_mean_directions():
    x, y = np.array([[2.0, 0.0], [7.0, 0.0]]), np.array([[0.0, 0.1]])
    assert (
        measure_gap(x, y) == pytest.approx(np.sqrt(2))
        and measure_gap(x, x) == 0
        and measure_gap(x, -x) == pytest.approx(2)
    )
    assert measure_gap(x, np.array([[1.0, 0.0], [0.0, 1.0]])) == pytest.approx(np.sqrt(0.5))


@pytest.fixture
def run(tmp_path):
    """A run whose kinds of features lie around axes of their own; in the bottleneck after training, classes do."""
    folder = write_run(tmp_path, "dark->light")
    rng = np.random.default_rng(0)
    sample = {"source_labels": np.arange(12) % 3, "source_rows": np.arange(12), "target_rows": np.arange(12)}
    sample |= {"target_image": cone(0, 12, rng), "target_vac": cone(1, 12, rng), "target_lac": cone(2, 12, rng)}
    classes = np.concatenate([cone(5 + k % 3, 1, rng) for k in range(12)])
    domains = np.concatenate([cone(9, 12, rng), cone(10, 12, rng)])
    sample |= {"source_bottleneck_after": classes, "target_bottleneck_after": classes + 0.01}
    sample |= {"source_bottleneck_before": domains[:12], "target_bottleneck_before": domains[12:]}
    forge(folder, "sample.safetensors", lambda _: save(sample))
    forge(folder, "heads.safetensors", lambda _: save({"text_features": cone(2, 3, rng)}))
    return find_runs([tmp_path])[0][0].runs[0]


def purity(places: np.ndarray, names: list[str]) -> float:
    """Share of points whose nearest other point bears the same name."""
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    return float(np.mean([names[i] == names[j] for i, j in enumerate(distances.argmin(1))]))


def test_the_modality_map_keeps_kinds_apart_and_text_with_lac(run):
    places = tsne(modality_features(run))
    assert {kind: points.shape for kind, points in places.items()} == {
        "image": (12, 2), "VAC": (12, 2), "LAC": (12, 2), "text": (3, 2),
    }  # fmt: skip
    three = [kind for kind in ("image", "VAC", "LAC") for _ in range(12)]
    assert purity(np.concatenate([places["image"], places["VAC"], places["LAC"]]), three) == 1.0
    centres = {kind: points.mean(0) for kind, points in places.items()}
    assert min(("image", "VAC", "LAC"), key=lambda kind: np.linalg.norm(centres[kind] - centres["text"])) == "LAC"


def test_bottleneck_maps_show_domains_before_and_classes_after(run):
    classes = bottleneck_classes(run)
    assert classes["source"][:4] == ["circle", "square", "bar", "circle"] and classes["source"] == classes["target"]
    domains = ["source"] * 12 + ["target"] * 12
    before, after = (
        np.concatenate(list(tsne(bottleneck_features(run, stage)).values())) for stage in ("before", "after")
    )
    assert purity(before, domains) == 1.0
    assert purity(after, classes["source"] + classes["target"]) == 1.0


def test_the_table_has_the_gaps_of_every_pair(run, tmp_path):
    experiment = find_runs([tmp_path])[0][0]
    row = gap_table(experiment).rows[0]
    assert len(row) == 1 + len(GAPS) and row[0].text == "dark → light"
    image_text, lac_text, vac_text, vac_lac = (cell.value for cell in row[1:])
    assert lac_text < 0.1 and all(abs(value - np.sqrt(2)) < 0.05 for value in (image_text, vac_text, vac_lac))


def test_large_samples_are_thinned_evenly_and_maps_repeat():
    assert (
        evenly_spaced(3).tolist() == [0, 1, 2]
        and len(evenly_spaced(1000)) == 150
        and evenly_spaced(1000)[[0, -1]].tolist() == [0, 999]
    )
    rows = {"a": np.random.default_rng(0).normal(size=(20, 4))}
    assert np.array_equal(tsne(rows)["a"], tsne(rows)["a"])


def test_a_torn_sample_is_an_error(run):
    (run.folder / "heads.safetensors").write_bytes(b"torn")
    with pytest.raises(RunFolderError, match=r"heads.safetensors is not what was written"):
        modality_features(run)
