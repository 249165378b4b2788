"""The light names are the table's, and no name means two things."""

import pytest

from unimos_pipe.base.method_config import VARIANTS
from unimos_pipe.methods.registry import METHODS as TABLE
from unimos_pipe.runs.method_names import CITATIONS, METHODS, OTHER_METHODS, protocol_fault


def test_the_names_are_the_tables():
    assert tuple(TABLE) == OTHER_METHODS
    assert all(method.load_model for method in TABLE.values())
    assert {name for name, method in TABLE.items() if method.transductive} == {
        "stata",
        "stata-fused",
        "zlap",
        "ensemble3",
    }


def test_every_method_says_whom_to_cite():
    assert tuple(CITATIONS) == METHODS


def test_no_variant_has_a_methods_name():
    """Both are folders below a pair, and rows of a table."""
    assert not {*METHODS} & {*VARIANTS} and len({*METHODS}) == len(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_makes_inductive_runs(name):
    assert protocol_fault(name, "transductive") is None and protocol_fault(name, "inductive") is None


def test_a_method_from_outside_without_a_model_makes_no_inductive_run(monkeypatch):
    monkeypatch.setattr("unimos_pipe.runs.method_names.method_names", lambda: ("mine",))
    monkeypatch.setattr("unimos_pipe.runs.method_names.answers_new_rows", lambda name: False)
    assert protocol_fault("mine", "inductive") == (
        "mine predicts only the rows it was fitted on, and an inductive run scores others; use protocol transductive"
    )
