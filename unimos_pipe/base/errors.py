"""The kinds of failure a user meets, and the one form their messages take."""

from collections.abc import Iterable
from difflib import get_close_matches

from unimos_pipe.base.renamed import new_spelling


class UnimosPipeError(Exception):
    """The message says what and where, expected, got, and what to do, in a line or two."""

    exit_code = 1

    def __init__(self, what: str, *, expected: object = None, got: object = None, todo: str | None = None):
        parts = [what.rstrip(".")]
        if expected is not None:
            parts.append(f"expected {expected}")
        if got is not None:
            parts.append(f"got {got}")
        message = ", ".join(parts) if expected is None else f"{parts[0]}: {', '.join(parts[1:])}"
        super().__init__(message + (f". {todo}" if todo else ""))


class ExecutionError(UnimosPipeError):
    """The command was right but the work failed (exit code 1)."""


class InputError(UnimosPipeError):
    """The command line or an input file is at fault (exit code 2)."""

    exit_code = 2


class StaleCacheError(InputError):
    """A cached file does not belong to what was asked for; it names the field, both values and the way out."""


def join_names(items, limit: int = 8) -> str:
    """Join names for a message, cutting a long list: ``a, b, c and 12 more``."""
    items = [str(item) for item in items]
    if len(items) <= limit:
        return ", ".join(items) if items else "none"
    return f"{', '.join(items[:limit])} and {len(items) - limit} more"


def closest_name(name: str, known: Iterable[str]) -> str | None:
    """The known name that a mistyped one is most like; None where none is."""
    return next(iter(get_close_matches(name, list(known), n=1, cutoff=0.65)), None)


def suggestions(unknown: str | Iterable[str], known: Iterable[str], limit: int = 20) -> str:
    """What to say after an unknown name, or several: ``did you mean icons? known: domainnet, icons and 6 more``."""
    known, names = list(known), [unknown] if isinstance(unknown, str) else list(unknown)
    renamed = {name: new for name in names if (new := new_spelling(name, known))}
    parts = [f"{old} is now {new}" for old, new in renamed.items()]
    if others := [name for name in names if name not in renamed]:
        near = [name for name in dict.fromkeys(closest_name(other, known) for other in others) if name is not None]
        question = f"did you mean {', '.join(near)}? " if near else ""
        parts.append(f"{question}known: {join_names(known, limit)}")
    return "; ".join(parts)


def short_repr(value: object) -> str:
    """A value that a file holds, for a message: cut where it is long, whatever it is."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, tables in tables without end
        return "a value too large to show"
    return text if len(text) <= 300 else f"{text[:300]} and so on"
