"""The oracle probe: only where every scored row has a label, and there are enough of them."""

import numpy as np
import pytest
from factories.tasks import random_task

from unimos_pipe.data.manifest import NO_LABEL
from unimos_pipe.evaluation.baselines import score_target_probe
from unimos_pipe.methods.task import HeldOutLabels

TASK = random_task(target=10, classes=2)
LABELS = np.arange(10) % 2


@pytest.mark.parametrize("labels", [None, np.where(np.arange(10) == 3, NO_LABEL, LABELS)])
def test_rows_without_a_label_leave_no_oracle(labels):
    assert score_target_probe(TASK, HeldOutLabels(labels, ("a", "b"))) is None


@pytest.mark.parametrize(("rows", "known"), [(4, False), (10, True)])
def test_five_folds_need_five_rows(rows, known):
    task = random_task(target=rows, classes=2)
    value = score_target_probe(task, HeldOutLabels(LABELS[:rows], ("a", "b")))
    assert (value is not None) == known and (not known or 0 <= value <= 1)
