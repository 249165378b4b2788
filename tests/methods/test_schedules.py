"""Schedules at hand-worked points."""

import pytest

from unimos_pipe.base.method_config import EvalSpec, TrainSpec
from unimos_pipe.methods.unimos.schedules import (
    batch_rows,
    inference_weight,
    learning_rate,
    pseudo_label_source,
    steps_per_epoch,
)


def test_learning_rate_falls_by_the_power_of_the_step():
    assert learning_rate(0, TrainSpec()) == 3e-3
    assert learning_rate(1000, TrainSpec()) == pytest.approx(3e-3 * 2**-0.75, rel=1e-12)
    assert learning_rate(15_000, TrainSpec(lr=8.0)) == pytest.approx(1.0, rel=1e-12)  # 16 ** -0.75 = 1/8


def test_inference_weight_falls_from_08_to_03_over_ten_epochs():
    found = [inference_weight(epoch, EvalSpec()) for epoch in (-1, 0, 1, 2, 9, 10, 11, 49)]
    assert found == pytest.approx([0.8, 0.8, 0.75, 0.7, 0.35, 0.3, 0.3, 0.3], abs=1e-12)
    assert {inference_weight(epoch, EvalSpec(w_start=0.3)) for epoch in range(15)} == {0.3}  # the paper's fixed weight


def test_another_inference_weight_at_the_end_takes_ten_epochs_too():
    found = [inference_weight(epoch, EvalSpec(w_end=0.6)) for epoch in (0, 1, 5, 9, 10, 30)]
    assert found == pytest.approx([0.8, 0.78, 0.7, 0.62, 0.6, 0.6], abs=1e-12)
    rising = [inference_weight(epoch, EvalSpec(w_start=0.2, w_end=0.6, w_epochs=4)) for epoch in range(6)]
    assert rising == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.6, 0.6], abs=1e-12)


def test_pseudo_labels_come_from_teacher_then_cluster_and_ensemble_in_turn():
    order = [pseudo_label_source(epoch, EvalSpec()) for epoch in range(-1, 6)]
    assert order == ["teacher", "teacher", "cluster", "ensemble", "cluster", "ensemble", "cluster"]
    assert {pseudo_label_source(epoch, EvalSpec(pseudo_labels="cluster")) for epoch in range(-1, 6)} == {"cluster"}


@pytest.mark.parametrize(("source", "target", "rows"), [(40, 56, 32), (20, 56, 20), (40, 20, 20), (32, 32, 32)])
def test_a_batch_is_no_larger_than_the_smaller_domain(source, target, rows):
    assert batch_rows(source, target, 32) == rows


def test_steps_are_whole_batches_of_the_smaller_domain():
    assert steps_per_epoch(2427, 4365, 32, 1500) == 75
    assert steps_per_epoch(152397, 55388, 32, 1500) == 1500
    assert [steps_per_epoch(70, 500, 32, 1500, least) for least in (1, 2, 10)] == [2, 2, 10]
    assert steps_per_epoch(70, 500, 32, 3, 10) == 3 and steps_per_epoch(500, 400, 32, 1500, 10) == 12
    assert [batch_rows(20, 50, 32), batch_rows(500, 50, 32), batch_rows(2, 9, 32)] == [20, 32, 2]
