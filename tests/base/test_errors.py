"""Names in messages."""

import pytest

from unimos_pipe.base.errors import join_names, suggestions


@pytest.mark.parametrize(
    ("unknown", "said"),
    [
        ("icns", "did you mean icons? known: icons, pacs and 1 more"),
        (["pcas", "icon", "icns"], "did you mean pacs, icons? known: icons, pacs and 1 more"),
        ("whatever", "known: icons, pacs and 1 more"),
        ("", "known: icons, pacs and 1 more"),
    ],
)
def test_what_is_said_after_an_unknown_name(unknown, said):
    assert suggestions(unknown, (name for name in ("icons", "pacs", "visda")), 2) == said


@pytest.mark.parametrize(
    ("names", "joined"),
    [("", "none"), ("abc", "a, b, c"), ("abcd", "a, b, c and 1 more"), ("abcde", "a, b, c and 2 more")],
)
def test_a_list_is_cut_above_its_limit(names, joined):
    assert join_names(names, 3) == joined
