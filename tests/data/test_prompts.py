"""Prompts as written, the default and others."""

import pytest

from unimos_pipe.base.errors import InputError
from unimos_pipe.base.method_config import DEFAULT_TEMPLATE
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.data.prompts import build_prompts


def test_the_default_is_the_papers_template():
    spec = load_spec("office_home")
    (prompts,) = build_prompts([DEFAULT_TEMPLATE], "real world", spec.class_prompts())
    assert prompts[:2] == ["a real world photo of a Drill.", "a real world photo of a Exit Sign."]
    assert len(prompts) == 65


def test_several_templates_and_no_domain():
    assert build_prompts(["a {class}", "{domain}: {class}"], "clip art", ["cat"]) == [["a cat"], ["clip art: cat"]]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a photo", "prompt template 'a photo': expected {class} in it, got none"),
        ("a {label} of {class}", "prompt template 'a {label} of {class}': expected {domain} and {class}, got {label}"),
    ],
)
def test_other_templates_are_refused(template, message):
    with pytest.raises(InputError) as caught:
        build_prompts([template], "clipart", ["cat"])
    assert str(caught.value) == message
