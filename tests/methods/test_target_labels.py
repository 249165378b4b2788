"""Labels of target rows in training: what joins, what it weighs, and what a method does with it."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from factories.tasks import random_task, small_method

from unimos_pipe.methods import source_probe, stata
from unimos_pipe.methods.auto import center_task
from unimos_pipe.methods.base import MethodOutput
from unimos_pipe.methods.logistic_regression import row_weights
from unimos_pipe.methods.target_labels import (
    SHARE,
    cross_fit_labelled_rows,
    join_target_labels,
    set_target_labels,
)
from unimos_pipe.methods.task import TAUGHT, HeldOutLabels, PairData, TargetLabels
from unimos_pipe.methods.unimos.trainer import Trainer
from unimos_pipe.methods.unimos.training_run import create_run

GIVEN = TargetLabels(torch.tensor([3, 10, 20, 31]), torch.tensor([3, 0, 0, 1]))
TASK = replace(random_task(), target_labels=GIVEN)


def test_labelled_rows_join_the_source_with_their_share_of_its_weight():
    source = join_target_labels(TASK).source
    assert torch.equal(source.features, torch.cat([TASK.source.features, TASK.target.features[GIVEN.rows]]))
    assert torch.equal(source.labels[40:], GIVEN.labels)
    assert source.origins.tolist() == [0] * 40 + [TAUGHT] * 4
    weights = row_weights(source)
    assert float(weights.mean()) == pytest.approx(1)
    assert float(weights[40:].sum() / weights[:40].sum()) == pytest.approx(SHARE)
    assert join_target_labels(random_task()).source.name == "source 0, torch.float64"


def test_other_labels_make_a_source_of_another_name():
    """Domains of equal names are taken to have equal rows."""
    other = replace(TASK, target_labels=TargetLabels(GIVEN.rows, GIVEN.labels + 1))
    assert join_target_labels(TASK).source.name != join_target_labels(other).source.name


def test_domains_of_the_source_still_count_the_same():
    origins = (torch.arange(40) >= 8).long()
    weights = row_weights(join_target_labels(replace(TASK, source=replace(TASK.source, origins=origins))).source)
    assert float(weights[:8].sum()) == pytest.approx(float(weights[8:40].sum()))


def test_labelled_rows_are_centred_by_the_targets_mean():
    centered = center_task(join_target_labels(TASK))
    expected = F.normalize(TASK.target.features[GIVEN.rows] - TASK.target.features.mean(0), dim=-1)
    torch.testing.assert_close(centered.source.features[40:], expected)
    torch.testing.assert_close(centered.source.features[:40], center_task(TASK).source.features)


def test_probes_learn_the_labels():
    rows = TASK.target.features[GIVEN.rows]
    swapped = replace(TASK, target_labels=TargetLabels(GIVEN.rows, (GIVEN.labels + 1) % 5))
    plain, taught = source_probe.fit_probe(TASK), source_probe.fit_probe(join_target_labels(swapped))
    picked = swapped.target_labels.labels.unsqueeze(1)
    before, after = (model.logits(rows).softmax(-1).gather(1, picked) for model in (plain, taught))
    assert (after > before + 0.05).all()


def test_anchors_keep_the_labels():
    start = torch.zeros(56, 5, dtype=torch.float64)
    assert set_target_labels(TASK, start)[[3, 4]].tolist() == [[0, 0, 0, 20, 0], [0] * 5]
    assert torch.equal(stata.fit(TASK).classes[GIVEN.rows], GIVEN.labels)
    assert set_target_labels(random_task(), start) is start


def test_cross_fitting_gives_each_row_a_fit_without_its_label():
    seen = []

    def fit(task):
        given = task.target_labels
        seen.append([] if given is None else given.rows.tolist())
        return MethodOutput(torch.full((56, 5), float(len(seen)), dtype=torch.float64))

    logits = cross_fit_labelled_rows(TASK, fit)
    assert len(seen) == 4
    for row, values in zip(GIVEN.rows.tolist(), logits, strict=True):
        assert row not in seen[int(values[0]) - 1] and len(seen[int(values[0]) - 1]) == 3
    alone = replace(TASK, target_labels=TargetLabels(GIVEN.rows[:1], GIVEN.labels[:1]))
    cross_fit_labelled_rows(alone, fit)
    assert seen[-1] == []


def test_unimos_draws_them_as_a_domain_and_keeps_their_pseudo_labels():
    run = create_run(TASK, small_method(train__epochs=1), 0)
    trainer = Trainer([run])
    source, _ = run.random_streams.next_batches(3)
    assert ((source >= 40).sum(-1) == run.batch // 2).all()
    for _, records in trainer.train():
        list(records)
        assert torch.equal(trainer.pseudo_labels[GIVEN.rows], GIVEN.labels)


def test_labels_that_teach_can_be_taken_from_those_that_score():
    labels = torch.arange(56).numpy() % 5
    data = PairData(TASK, HeldOutLabels(labels, tuple("abcde")), (), None, {}, [])
    scored = data.without_taught_labels().held_out.labels
    assert scored[[3, 10, 20, 31]].tolist() == [-1] * 4 and (scored != -1).sum() == 52
    assert (labels != -1).all()
    few = PairData(
        replace(TASK, target_labels=TargetLabels(torch.arange(56), GIVEN.labels)), data.held_out, (), None, {}, []
    )
    assert few.without_taught_labels().held_out.labels is None
    test_rows = replace(data, held_out=HeldOutLabels(labels, tuple("abcde"), features=TASK.target.features))
    assert test_rows.without_taught_labels() is test_rows
