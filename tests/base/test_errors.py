"""Names in messages."""

import pytest

from unimos_pipe.base.errors import suggestions


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
