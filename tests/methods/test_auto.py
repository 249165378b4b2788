"""auto: the rule at its edges, and what a choice holds."""

import pytest
import torch

from tests.factories.tasks import random_task
from unimos_pipe.methods import auto as auto_module
from unimos_pipe.methods.auto import fit_auto, select_method
from unimos_pipe.methods.registry import METHODS
from unimos_pipe.methods.unsupervised_metrics import find_nearest_rows, neighbour_agreement

TASK = random_task(dim=4, seed=1)  # so hard that the methods answer differently


@pytest.mark.parametrize("said", ["closed", None])
@pytest.mark.parametrize(
    ("difference", "picked"),
    [(0.0501, "linear-im"), (0.05, "ensemble3"), (0.0, "ensemble3"), (-0.0001, "stata-fused")],
)
def test_the_rule_by_difference_where_all_classes_occur(difference, picked, said):
    assert select_method(difference, said)[0] == picked


@pytest.mark.parametrize("difference", [0.5, 0.02, -0.5])
def test_where_only_some_classes_occur_it_is_the_anchors(difference):
    assert select_method(difference, "partial") == ("stata-fused", "only some of the classes occur in the target")


def test_the_reason_says_the_difference():
    assert select_method(0.0712, None)[1] == "neighbours agree on linear-im's answers by +7.1 points against fused's"


@pytest.mark.parametrize("picked", ["linear-im", "ensemble3", "stata-fused"])
def test_the_pick_answers_as_the_method_of_its_name(monkeypatch, picked):
    monkeypatch.setattr(auto_module, "select_method", lambda difference, said: (picked, "because"))
    found = fit_auto(TASK, "closed")
    wanted = METHODS[picked].fit(TASK)
    assert found.selected == picked and found.reason == "because" and found.warning is None
    assert torch.equal(found.output.logits, wanted.logits)
    assert (found.output.model is None) == (METHODS[picked].load_model is None)
    nearest = find_nearest_rows(TASK.target.features)
    for name, value in found.agreements.items():
        assert value == neighbour_agreement(METHODS[name].fit(TASK).classes, nearest)
    assert set(found.agreements) == {"fused", "stata-fused", "linear-im", picked}
    assert found.accuracy == found.agreements[picked]
    assert len(set(found.agreements.values())) == len(found.agreements)


@pytest.mark.parametrize(("picked", "warns"), [("linear-im", True), ("ensemble3", True), ("stata-fused", False)])
def test_what_was_assumed_unsaid_is_a_warning(monkeypatch, picked, warns):
    monkeypatch.setattr(auto_module, "select_method", lambda difference, said: (picked, "because"))
    wanted = (
        f"{picked} is right only where all classes occur in the target, which is assumed; "
        "say --label-set closed or partial"
    )
    assert fit_auto(TASK).warning == (wanted if warns else None)
