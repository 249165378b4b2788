"""Class names that domains spell differently: bound to one spelling where that is safe, asked about elsewhere."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

from unimos_pipe.base.errors import Argument, InputError, join_names
from unimos_pipe.data.custom_domain import ScannedDomain
from unimos_pipe.data.manifest import UNKNOWN_CLASS

_QUOTES = "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb"
_MISSING = frozenset(("nan", "null", "na", "n/a", "none", "nil", "undefined"))


def spelling_key(name: str) -> str:
    """Return what spellings of a name have in common that differ by case, Unicode form, separators or quotes."""
    text = unicodedata.normalize("NFKC", name).casefold()
    text = unicodedata.normalize("NFKC", text).strip(f"{_QUOTES} ")
    return re.sub(r"[\s_\-\u2010-\u2015.]+", "", text) or name


def plural_key(name: str) -> str:
    """Return the :func:`spelling_key` of a name without an English plural's ending."""
    key = spelling_key(name)
    for ending, singular in (("ies", "y"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x"), ("s", "")):
        stem = key.removesuffix(ending) + singular
        if key.endswith(ending) and not key.endswith("ss") and len(stem) > 2:
            return stem
    return key


def bind_spellings(domains: Sequence[ScannedDomain], kept: Sequence[str] = ()) -> tuple[list[ScannedDomain], list[str]]:
    """Return the domains with one spelling of each class, that of the first domain that has it, and notes.

    Spellings that differ by case, Unicode form, spaces, underscores, hyphens or quotes are bound, unless a domain has
    two of them. Names that differ by a plural are asked about.

    Args:
        kept: names that are classes of their own, whatever they resemble.
    Raises:
        InputError: spellings that may be one class or several, or a labelled domain that shares no class with another.
    """
    names = {domain.name: {row.label for row in domain.rows} - {"", UNKNOWN_CLASS, *kept} for domain in domains}
    first_spelling: dict[str, str] = {}
    for domain, present in names.items():
        for name in sorted(present):
            other = first_spelling.setdefault(spelling_key(name), name)
            if other != name and other in present:
                _ask(f"domain {domain}: the class names {other!r} and {name!r} differ only in spelling")
    renamed = [
        replace(domain, rows=[replace(row, label=_bound(row.label, first_spelling, kept)) for row in domain.rows])
        for domain in domains
    ]
    notes = [
        f"domain {domain}: the class {name!r} is read as {first_spelling[spelling_key(name)]!r}"
        for domain, present in names.items()
        for name in sorted(present)
        if first_spelling[spelling_key(name)] != name
    ]
    bound = {domain: {first_spelling[spelling_key(name)] for name in present} for domain, present in names.items()}
    _check_plurals(bound)
    _check_common_classes({domain.name: {row.label for row in domain.rows} - {"", UNKNOWN_CLASS} for domain in renamed})
    return renamed, notes + _unspeaking_names(renamed)


def _bound(label: str, first_spelling: Mapping[str, str], kept: Sequence[str]) -> str:
    return label if label in ("", UNKNOWN_CLASS, *kept) else first_spelling[spelling_key(label)]


def _ask(fault: str) -> None:
    raise InputError(
        fault,
        todo=(
            "If they are one class, give it one name; if they are two, name both with ",
            Argument("keep_folders", "NAME"),
        ),
    )


def _check_plurals(names: Mapping[str, set[str]]) -> None:
    """Raise InputError for singular and plural of a name in two domains, neither of which has both."""
    for (domain, present), (other, others) in combinations(names.items(), 2):
        singular = {plural_key(name): name for name in present - others}
        for name in sorted(others - present):
            match = singular.get(plural_key(name))
            if match is not None and match not in others and name not in present:
                _ask(f"the class {match!r} of domain {domain} and {name!r} of {other} differ by a plural")


def _check_common_classes(names: Mapping[str, set[str]]) -> None:
    """Raise InputError for a labelled domain that has no class in common with any other labelled domain."""
    labelled = {domain: present for domain, present in names.items() if present}
    for domain, present in labelled.items():
        others = {name for other, classes in labelled.items() if other != domain for name in classes}
        if len(labelled) > 1 and not present & others:
            raise InputError(
                f"domain {domain} has no class in common with another domain",
                expected=f"one of {join_names(sorted(others), 5)}",
                got=join_names(sorted(present), 5),
                todo="Give one class one name in all domains",
            )


def _unspeaking_names(domains: Sequence[ScannedDomain]) -> list[str]:
    """Return notes about names that a prompt cannot use: numbers, WordNet ids, missing values, quotes."""
    counts: dict[str, int] = {}
    for domain in domains:
        for row in domain.rows:
            counts[row.label] = counts.get(row.label, 0) + 1
    kinds = {
        "numbers": re.compile(r"[\d.]+").fullmatch,
        "WordNet ids": re.compile(r"n\d{8}").fullmatch,
        "quoted names": lambda name: name != name.strip(_QUOTES),
        "words for a missing value": lambda name: name.casefold() in _MISSING,
    }
    notes = []
    for kind, is_kind in kinds.items():
        if matching := sorted(name for name in counts if name and name != UNKNOWN_CLASS and is_kind(name)):
            total = sum(counts[name] for name in matching)
            notes.append(
                f"{len(matching)} classes ({total} images) are {kind}: {join_names(matching, 3)}; prompts say them as "
                "they are, unless [display] of the spec has a wording"
            )
    return notes
