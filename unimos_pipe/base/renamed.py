"""Old spellings of names that users write in recipes, settings and option values.

An unknown name that has a new spelling among the known ones is refused with it (:func:`base.errors.suggestions`).
"""

from collections.abc import Iterable

RENAMED = {
    "w_step": "w_epochs",  # section eval
    "paper": "published_table",  # recipe
    "set": "options",  # recipe
    "target_classes": "label_set",  # recipe
    "all": "closed",  # label_set
    "some": "partial",  # label_set
    "trio": "ensemble3",  # method
}


def new_spelling(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that replaces an old one, with its section: ``eval.w_epochs``; None if there is none."""
    section, dot, key = name.rpartition(".")
    new = f"{section}{dot}{RENAMED.get(key, '')}"
    return new if new != f"{section}{dot}" and new in known else None
