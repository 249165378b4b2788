"""Comparison of class names: spellings of one name, plurals, and domains without a common class."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations

from unimos_pipe.base.errors import Argument, InputError

QUOTES = "\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb"


def spelling_key(name: str) -> str:
    """Return what spellings of a name have in common that differ by case, Unicode form, separators or quotes."""
    text = unicodedata.normalize("NFKC", name).casefold()
    text = unicodedata.normalize("NFKC", text).strip(f"{QUOTES} ")
    return re.sub(r"[\s_\-\u2010-\u2015.]+", "", text) or name


def plural_key(name: str) -> str:
    """Return the :func:`spelling_key` of a name without an English plural's ending."""
    key = spelling_key(name)
    for ending, singular in (("ies", "y"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x"), ("s", "")):
        stem = key.removesuffix(ending) + singular
        if key.endswith(ending) and not key.endswith("ss") and len(stem) > 2:
            return stem
    return key


def match_class_names(names: Iterable[str], classes: Sequence[str]) -> dict[str, str]:
    """Return name -> class for the names that are a class's, exactly or in another spelling (:func:`spelling_key`).

    A spelling of several classes, or of one whose own spelling is among the names, is none's.
    """
    names, by_key = {*names}, _by_spelling(classes)
    matches = {name: name for name in names if name in {*classes}}
    for name in names - {*matches}:
        same = by_key.get(spelling_key(name), [])
        if len(same) == 1 and same[0] not in names:
            matches[name] = same[0]
    return matches


def _by_spelling(names: Iterable[str]) -> dict[str, list[str]]:
    by_key: dict[str, list[str]] = {}
    for name in names:
        by_key.setdefault(spelling_key(name), []).append(name)
    return by_key


def spelling_notes(where: str, matches: Mapping[str, str]) -> list[str]:
    """Return a line about each name that is read as a class of another spelling."""
    return [
        f"{where}: the class {name!r} is read as {other!r}" for name, other in sorted(matches.items()) if name != other
    ]


def ask_about(fault: str) -> None:
    """Raise InputError for names that may be one class or two."""
    raise InputError(
        fault,
        todo=(
            "If they are one class, give it one name; if they are two, name both with ",
            Argument("keep_folders", "NAME"),
        ),
    )


def class_of_new_name(name: str, classes: Collection[str], present: Collection[str], domain: str) -> str:
    """Return the class of a domain's class folder that is new: a class in another spelling, or a new one of its name.

    Args:
        classes: the data set's classes.
        present: those that the domain has.
    Raises:
        InputError: a spelling of several classes or of one that the domain has, or the plural or singular of another.
    """
    spelled = _by_spelling(classes).get(spelling_key(name), [])
    if len(spelled) > 1 or {*spelled} & {*present}:
        ask_about(f"domain {domain}: the class names {spelled[0]!r} and {name!r} differ only in spelling")
    if spelled:
        return spelled[0]
    for other in classes:
        if plural_key(other) == plural_key(name) and other not in present:
            ask_about(f"domain {domain}: the new class {name!r} and the class {other!r} differ by a plural")
    return name


def plural_pairs(names: Mapping[str, Collection[str]]) -> list[str]:
    """Return a line about each singular and plural of a name in two domains, neither of which has both."""
    faults = []
    for (domain, present), (other, others) in combinations(names.items(), 2):
        singular = {plural_key(name): name for name in {*present} - {*others}}
        for name in sorted({*others} - {*present}):
            match = singular.get(plural_key(name))
            if match is not None:
                faults.append(f"the class {match!r} of domain {domain} and {name!r} of {other} differ by a plural")
    return faults


def domains_apart(names: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
    """Return the labelled domains that have no class in common with any other, each with the others' classes."""
    labelled = {domain: {*present} for domain, present in names.items() if present}
    apart = {}
    for domain, present in labelled.items():
        others = {name for other, classes in labelled.items() if other != domain for name in classes}
        if len(labelled) > 1 and not present & others:
            apart[domain] = others
    return apart
