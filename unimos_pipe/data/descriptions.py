"""Sentences that describe each class, in the place of sentences from templates.

The file is JSON, {"class": ["sentence", ...]}, as CuPL (Pratt et al., ICCV 2023) writes it. A template that holds the
digest of the sentences stands for them in identities, run folders and recipes, so that stage two needs no file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unimos_pipe.base.dataclass_parsing import fingerprint
from unimos_pipe.base.errors import InputError, ReadError, join_names, short_repr
from unimos_pipe.base.safe_open import MAX_TEXT_BYTES, read_json
from unimos_pipe.data.class_spellings import spelling_key
from unimos_pipe.data.dataset_spec import DatasetSpec
from unimos_pipe.data.prompts import DESCRIPTIONS


@dataclass(frozen=True)
class Descriptions:
    """The sentences of each class, in label order, and the file that they come from."""

    sentences: tuple[tuple[str, ...], ...]
    file: Path

    @property
    def template(self) -> str:
        """The template that stands for these sentences, with their digest."""
        return f"{DESCRIPTIONS}{fingerprint(self.sentences)[:16]}"

    def prompts(self, domain_word: str) -> list[list[str]]:
        """Return the sentences of each class, with ``{domain}`` replaced by a domain's word."""
        return [[sentence.replace("{domain}", domain_word) for sentence in texts] for texts in self.sentences]


def read_descriptions(file: Path, spec: DatasetSpec) -> Descriptions:
    """Read the sentences of a data set's classes; other classes in the file are passed over.

    Names are compared without case and separators. A class is found by its name, else by its name in prompts.

    Raises:
        InputError: not such a file, a class without sentences, or two entries for one class.
    """
    try:
        values = read_json(file, MAX_TEXT_BYTES)
    except ReadError as error:
        raise error.of_input(f"descriptions {file}: {error.reason}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"descriptions {file} is not JSON: {' '.join(str(error).split())[:200]}") from None
    form = '{"class": ["sentence", ...], ...}'
    if not isinstance(values, dict) or not values:
        raise InputError(f"descriptions {file}", expected=form, got=short_repr(values))
    if wrong := [name for name, texts in values.items() if not _are_sentences(texts)]:
        raise InputError(f"descriptions {file}: {wrong[0]!r}", expected=form, got=short_repr(values[wrong[0]]))
    names_by_key: dict[str, list[str]] = {}
    for name in values:
        names_by_key.setdefault(spelling_key(name), []).append(name)
    names = [_find_names(names_by_key, *pair) for pair in zip(spec.classes, spec.class_prompts(), strict=True)]
    if missing := [name for name, matches in zip(spec.classes, names, strict=True) if not matches]:
        raise InputError(
            f"descriptions {file}",
            expected=f"all {len(spec.classes)} classes of {spec.name}",
            got=f"none of {join_names(missing)}",
        )
    if repeated := [matches for matches in names if len(matches) > 1]:
        raise InputError(f"descriptions {file}: {join_names(repeated[0])} are one class; keep one of them")
    return Descriptions(tuple(tuple(values[name]) for (name,) in names), file)


def _find_names(names_by_key: dict[str, list[str]], class_name: str, class_prompt: str) -> list[str]:
    """Return the entries of a class: those of its name, else those of its name in prompts."""
    return names_by_key.get(spelling_key(class_name)) or names_by_key.get(spelling_key(class_prompt), [])


def _are_sentences(texts: object) -> bool:
    return (
        isinstance(texts, Sequence)
        and not isinstance(texts, str)
        and bool(texts)
        and all(isinstance(text, str) and text.strip() for text in texts)
    )
