"""Scores and the choice of an epoch, by hand."""

import numpy as np
import torch

from unimos_pipe.evaluation.metrics import score_predictions
from unimos_pipe.methods.task import HeldOutLabels
from unimos_pipe.runs.statistics import wilson_interval
from unimos_pipe.training.run_recorder import oracle_epoch, picked_epoch


def test_a_class_without_a_row_stays_out_of_the_class_mean():
    held_out = HeldOutLabels(np.array([0, 0, 0, 1]), ("a", "b", "c"))
    found = score_predictions(torch.tensor([0, 0, 1, 1]), held_out)
    assert found.accuracy == 0.75
    assert found.per_class == (2 / 3, 1.0, None)
    assert found.per_class_mean == (2 / 3 + 1) / 2
    assert score_predictions(torch.tensor([0]), HeldOutLabels(None, ("a", "b"))) is None


def test_rows_without_a_label_are_not_scored():
    """Of five rows three are known; the class of the other two is seen nowhere else and stays out."""
    held_out = HeldOutLabels(np.array([0, -1, 1, -1, 0]), ("a", "b", "c"))
    found = score_predictions(torch.tensor([0, 2, 0, 2, 0]), held_out)
    assert (found.accuracy, found.per_class, found.per_class_mean) == (2 / 3, (1.0, 0.0, None), 0.5)
    assert found.interval == wilson_interval(2 / 3, 3) and held_out.labelled.tolist() == [0, 2, 4]
    assert score_predictions(torch.tensor([0, 1]), HeldOutLabels(np.array([-1, -1]), ("a", "b"))) is None


def line(epoch: int, accuracy: float, per_class_mean: float, im: float) -> dict:
    figures = {"accuracy": {"ensemble": accuracy}, "per_class_mean": {"ensemble": per_class_mean}}
    return {"epoch": epoch, **figures, "validators": {"im": im}}


EPOCHS = [line(0, 0.6, 0.3, 1.0), line(1, 0.5, 0.5, 3.0), line(2, 0.4, 0.4, 2.0), line(3, 0.6, 0.5, 3.0)]


def test_the_oracle_goes_by_the_data_sets_own_figure():
    assert oracle_epoch(EPOCHS, "accuracy")["epoch"] == 0
    assert oracle_epoch(EPOCHS, "per_class_mean")["epoch"] == 1


def test_a_validator_picks_the_epoch_it_scores_highest():
    assert picked_epoch(EPOCHS, "im")["epoch"] == 1
