"""Metrics of unknown rows against plain numbers; tasks with hidden classes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from factories.tasks import random_task
from sklearn.metrics import roc_auc_score

from unimos_pipe.base.errors import InputError
from unimos_pipe.data.dataset_spec import check_spec
from unimos_pipe.evaluation.open_set import score_unknown_rows
from unimos_pipe.methods.open_set_task import hide_classes
from unimos_pipe.methods.task import HeldOutLabels, PairData

LABELS = np.array([0, 1, 1, 0, -1, -1, -1])
UNKNOWN = np.array([False] * 4 + [True, True, False])  # the last row has no label
HELD_OUT = HeldOutLabels(LABELS, ("a", "b"), unknown=UNKNOWN)
PREDICTIONS = torch.tensor([0, 1, 0, 0, 1, 1, 1])
SCORES = torch.tensor([0.1, 0.2, 0.3, 0.6, 0.5, 0.9, 0.0])


def test_scores_of_six_labelled_rows():
    """Right are rows 0, 1 and 3, of which 3 is called unknown from 0.5 on; of the unknown rows both are found."""
    scores = score_unknown_rows(PREDICTIONS, SCORES, 0.5, HELD_OUT)
    assert (scores.known_rows, scores.unknown_rows) == (4, 2)
    assert (scores.known_before, scores.known_after, scores.found) == (0.75, 0.5, 1)
    assert scores.h_score == pytest.approx(2 * 0.5 / 1.5) and scores.best_h_score == scores.h_score
    assert scores.auroc == pytest.approx(7 / 8)  # of 8 pairs only 0.6 and 0.5 stand the wrong way
    # accepted unknown and right rows by falling threshold: (1, 3/4), (1/2, 3/4), (1/2, 1/2), (0, 1/2)
    assert scores.oscr == pytest.approx(0.5 * 0.5 + 0.5 * 0.75)


def test_area_under_roc_of_equal_scores():
    rng = np.random.default_rng(0)
    values, unknown = rng.integers(0, 5, 60) / 10, rng.random(60) < 0.4
    held_out = HeldOutLabels(np.where(unknown, -1, 0), ("a", "b"), unknown=unknown)
    scores = score_unknown_rows(torch.zeros(60, dtype=torch.int64), torch.from_numpy(values), 0.2, held_out)
    assert scores.auroc == pytest.approx(roc_auc_score(unknown, values))


@pytest.mark.parametrize(
    "held_out",
    [
        HeldOutLabels(LABELS, ("a", "b")),
        HeldOutLabels(None, ("a", "b")),
        replace(HELD_OUT, unknown=np.zeros(7, bool)),
        replace(HELD_OUT, labels=np.full(7, -1)),
    ],
)
def test_nothing_is_scored_without_both_kinds_of_rows(held_out):
    assert score_unknown_rows(PREDICTIONS, SCORES, 0.5, held_out) is None


def test_hidden_classes_leave_the_source_and_are_unknown_in_the_target():
    task = random_task()
    labels = np.arange(56) % 5
    labels[0] = -1
    data = PairData(task, HeldOutLabels(labels, tuple("abcde")), tuple(map(str, range(56))), None, {"x": ["1"]}, [])
    hidden = hide_classes(data, ("b", "e"), ("c",))
    kept = np.flatnonzero(labels != 2)
    assert hidden.held_out.classes == ("a", "c", "d")
    assert torch.equal(hidden.task.text_features, task.text_features[[0, 2, 3]])
    source_rows = [row for row in range(40) if row % 5 in (0, 2, 3)]
    assert torch.equal(hidden.task.source.features, task.source.features[source_rows])
    assert hidden.task.source.labels.tolist() == [{0: 0, 2: 1, 3: 2}[row % 5] for row in source_rows]
    assert torch.equal(hidden.task.target.features, task.target.features[kept])
    assert hidden.scored_paths == tuple(map(str, kept))
    names = {0: 0, 3: 2, 1: -1, 4: -1, -1: -1}
    assert hidden.held_out.labels.tolist() == [names[label] for label in labels[kept].tolist()]
    assert hidden.held_out.unknown.tolist() == [label in (1, 4) for label in labels[kept].tolist()]
    assert hidden.task.source.name != hide_classes(data, ("b",)).task.source.name != task.source.name
    assert len(hide_classes(data, ("b",)).scored_paths) == 56


def test_faults_of_a_spec(tmp_path):
    values = {"name": "d", "classes": ["a", "b", "c"], "domains": {"x": {}, "y": {}}}
    with pytest.raises(InputError) as error:
        check_spec(values | {"unknown_classes": ["a", "b", "z"], "source_only_classes": ["a"]}, tmp_path / "d.toml")
    assert str(error.value) == (
        f"{tmp_path / 'd.toml'}: unknown_classes: no class 'z'; classes in unknown_classes and source_only_classes: a; "
        "unknown_classes: at least 2 other classes are needed"
    )
    spec = check_spec(values | {"unknown_classes": ["c"]}, tmp_path / "d.toml")
    assert spec.protocol("open-set") == "open-set"
    with pytest.raises(
        InputError, match=r"^d names no unknown_classes, so that protocol open-partial has none to hide$"
    ):
        check_spec(values, tmp_path / "d.toml").protocol("open-partial")
