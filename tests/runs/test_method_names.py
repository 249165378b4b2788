"""The light names are the table's, and no name means two things."""

import pytest

from unimos_pipe.base.method_config import VARIANTS
from unimos_pipe.methods.registry import METHODS as TABLE
from unimos_pipe.runs.method_names import CITATIONS, METHODS, OTHER_METHODS, TARGET_ONLY, protocol_fault


def test_the_names_are_the_tables():
    assert tuple(TABLE) == OTHER_METHODS
    assert tuple(name for name, method in TABLE.items() if method.load_model is None) == TARGET_ONLY


def test_every_method_says_whom_to_cite():
    assert tuple(CITATIONS) == METHODS


def test_no_variant_has_a_methods_name():
    """Both are folders below a pair, and rows of a table."""
    assert not {*METHODS} & {*VARIANTS} and len({*METHODS}) == len(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_what_answers_no_new_rows_makes_no_inductive_run(name):
    assert protocol_fault(name, "transductive") is None
    head = "only the rows it was fitted on, and an inductive run scores others; use protocol transductive"
    assert protocol_fault(name, "inductive") == (f"{name} predicts {head}" if name in TARGET_ONLY else None)
