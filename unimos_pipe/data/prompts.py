"""Prompts for the text encoder (METHOD.md section 1)."""

import re
from collections.abc import Sequence

from unimos_pipe.base.errors import InputError, join_names

DESCRIPTIONS = "descriptions:"  # begins a template that stands for sentences by class, see data/descriptions.py


def clean_class_name(name: str) -> str:
    """Replace underscores by spaces, because the tokenizer keeps them: ``Alarm_Clock`` -> ``Alarm Clock``."""
    return name.replace("_", " ")


def build_prompts(templates: Sequence[str], domain_word: str, class_names: Sequence[str]) -> list[list[str]]:
    """Return the prompts of all classes for one domain word.

    Args:
        templates: texts with ``{class}`` and optionally ``{domain}``.
        domain_word: the target domain's word, such as ``real world``.
        class_names: names of the K classes in prompts, in label order.
    Returns:
        One list of K prompts per template; of a template that stands for sentences by class, itself.
    Raises:
        InputError: a template without ``{class}``, or with another placeholder.
    """
    return [
        [template]
        if template.startswith(DESCRIPTIONS)
        else [_fill_template(template, domain_word, name) for name in class_names]
        for template in templates
    ]


def _fill_template(template: str, word: str, name: str) -> str:
    if unknown := set(re.findall(r"\{[^{}]*\}", template)) - {"{domain}", "{class}"}:
        raise InputError(
            f"prompt template {template!r}", expected="{domain} and {class}", got=join_names(sorted(unknown))
        )
    if "{class}" not in template:
        raise InputError(f"prompt template {template!r}", expected="{class} in it", got="none")
    return template.replace("{domain}", word).replace("{class}", name)
