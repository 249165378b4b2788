"""Class names that domains spell differently: bound to one spelling where that is safe, asked about elsewhere."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from unimos_pipe.base.errors import InputError, join_names
from unimos_pipe.data.class_names import QUOTES, ask_about, domains_apart, plural_pairs, spelling_key, spelling_notes
from unimos_pipe.data.custom_domain import ScannedDomain
from unimos_pipe.data.manifest import UNKNOWN_CLASS

_MISSING = frozenset(("nan", "null", "na", "n/a", "none", "nil", "undefined"))


def bind_spellings(
    domains: Sequence[ScannedDomain], kept: Sequence[str] = (), ask: Callable[[str], None] = ask_about
) -> tuple[list[ScannedDomain], list[str]]:
    """Return the domains with one spelling of each class, that of the first domain that has it, and notes.

    Spellings that differ by case, Unicode form, spaces, underscores, hyphens or quotes are bound, unless a domain has
    two of them. Names that differ by a plural are asked about.

    Args:
        kept: names that are classes of their own, whatever they resemble.
        ask: called about names that may be one class or two; if it returns, they are two.
    Raises:
        InputError: a labelled domain that shares no class with another; and what ``ask`` raises.
    """
    fixed = {"", UNKNOWN_CLASS, *kept}
    names = {domain.name: {row.label for row in domain.rows} - fixed for domain in domains}
    first_spelling: dict[str, str] = {}
    for domain, present in names.items():
        for name in sorted(present):
            other = first_spelling.setdefault(spelling_key(name), name)
            if other != name and other in present:
                ask(f"domain {domain}: the class names {other!r} and {name!r} differ only in spelling")
                fixed |= {other, name}
    bound = {
        domain: {name: name if name in fixed else first_spelling[spelling_key(name)] for name in present}
        for domain, present in names.items()
    }
    renamed = [
        replace(domain, rows=[replace(row, label=bound[domain.name].get(row.label, row.label)) for row in domain.rows])
        for domain in domains
    ]
    notes = [note for domain, matches in bound.items() for note in spelling_notes(f"domain {domain}", matches)]
    for fault in plural_pairs({domain: {*matches.values()} for domain, matches in bound.items()}):
        ask(fault)
    _check_common_classes({domain.name: {row.label for row in domain.rows} - {"", UNKNOWN_CLASS} for domain in renamed})
    return renamed, notes + _unspeaking_names(renamed)


def _check_common_classes(names: Mapping[str, set[str]]) -> None:
    """Raise InputError for a domain of :func:`domains_apart`."""
    for domain, others in domains_apart(names).items():
        raise InputError(
            f"domain {domain} has no class in common with another domain",
            expected=f"one of {join_names(sorted(others), 5)}",
            got=join_names(sorted(names[domain]), 5),
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
        "quoted names": lambda name: name != name.strip(QUOTES),
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
