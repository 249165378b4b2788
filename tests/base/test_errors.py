"""Parts of messages."""

import pytest

from unimos_pipe.base.errors import first_difference


@pytest.mark.parametrize(
    ("expected", "got", "texts"),
    [
        (("cat", "dog", "emu"), ("cat", "emu", "dog"), ("'dog' as entry 2", "'emu' as entry 2")),
        ([1, 2], [1, 2, 3], ("nothing as entry 3", "3 as entry 3")),
        ([None], [], ("None as entry 1", "nothing as entry 1")),
    ],
)
def test_the_first_difference_is_named(expected, got, texts):
    assert first_difference(expected, got) == texts
