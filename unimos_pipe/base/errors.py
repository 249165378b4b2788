"""Exceptions for users, and helpers that format their messages."""

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from unimos_pipe.base.renamed import new_spelling

PATH_FAULTS = frozenset({  # errors of the system that mean a path of the user's was no good
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS,
    errno.EEXIST, errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.ENODEV,
})  # fmt: skip


@dataclass(frozen=True)
class Argument:
    """A parameter of a public function in a message, with the value to pass; the command line shows its option."""

    name: str
    value: object = None  # None: the parameter alone

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}={self.value!r}"


@dataclass(frozen=True)
class Call:
    """A call of a public function in a message, such as the one to run next; the command line shows its command.

    ``arguments`` maps parameters to plain values, or to the calls that make them.
    """

    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def replace(self, **arguments: Any) -> "Call":
        """Return the call with some arguments added or changed."""
        return Call(self.function, {**self.arguments, **arguments})

    def __str__(self) -> str:
        shown = (f"{name}={_plain(value)!r}" for name, value in self.arguments.items())
        return f"unimos_pipe.{self.function}({', '.join(shown)})"

    __repr__ = __str__


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


Text = str | tuple[str | Argument | Call, ...]  # a tuple is joined without spaces


def text_parts(text: Text) -> tuple[str | Argument | Call, ...]:
    """Return the parts of a message."""
    return (text,) if isinstance(text, str) else text


class UnimosPipeError(Exception):
    """Base class. The message states what and where, expected, got, and what to do."""

    exit_code = 1

    def __init__(self, what: Text, *, expected: object = None, got: object = None, todo: Text | None = None):
        *first, last = text_parts(what)
        parts = [*first, last.rstrip(".") if isinstance(last, str) else last]
        if expected is not None:
            parts.append(f": expected {expected}")
        if got is not None:
            parts.append(f", got {got}")
        if todo:
            parts += [". ", *text_parts(todo)]
        self.parts = tuple(parts)
        super().__init__("".join(map(str, parts)))


class ExecutionError(UnimosPipeError):
    """The command was right but the work failed (exit code 1)."""


class ReadError(ExecutionError):
    """A file or folder that the system could not read. It says nothing about what the file holds.

    ``number`` is the system's errno and ``reason`` its text. The exit code is 2 where the path is at fault, else 1.
    """

    def __init__(self, path: Path, reason: str, number: int):
        self.path, self.reason, self.number = path, reason, number
        self.lasting = number in (*PATH_FAULTS, errno.EFBIG)  # trying again cannot help
        todo = None if self.lasting else "It may be sound; run the command again"
        super().__init__(f"cannot read {path}: {reason}", todo=todo)
        self.exit_code = 2 if self.lasting else 1

    def __reduce__(self) -> tuple:
        return ReadError, (self.path, self.reason, self.number)

    @classmethod
    def of(cls, path: Path, error: OSError) -> "ReadError":
        """The error of the system's own about a path."""
        return cls(path, error.strerror or str(error), error.errno)

    @property
    def absent(self) -> bool:
        """True if the file does not exist."""
        return self.number in (errno.ENOENT, errno.ENOTDIR)

    def of_input(self, message: str) -> UnimosPipeError:
        """The same about a file that the user named, whose path may be at fault: an InputError then."""
        return InputError(message) if self.lasting else self


class InputError(UnimosPipeError):
    """The command line or an input file is at fault (exit code 2)."""

    exit_code = 2


class StaleCacheError(InputError):
    """A cached file does not match the request. The message names the field, both values and the fix."""


def join_names(items, limit: int = 8) -> str:
    """Join names for a message, cutting a long list: ``a, b, c and 12 more``."""
    items = [str(item) for item in items]
    if len(items) <= limit:
        return ", ".join(items) if items else "none"
    return f"{', '.join(items[:limit])} and {len(items) - limit} more"


def closest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to a mistyped one, or None."""
    return next(iter(get_close_matches(name, list(known), n=1, cutoff=0.65)), None)


def suggestions(unknown: str | Iterable[str], known: Iterable[str], limit: int = 20) -> str:
    """Format the hint for one or more unknown names: ``did you mean icons? known: domainnet, icons and 6 more``."""
    known, names = list(known), [unknown] if isinstance(unknown, str) else list(unknown)
    renamed = {name: new for name in names if (new := new_spelling(name, known))}
    parts = [f"{old} is now {new}" for old, new in renamed.items()]
    if others := [name for name in names if name not in renamed]:
        near = [name for name in dict.fromkeys(closest_name(other, known) for other in others) if name is not None]
        question = f"did you mean {', '.join(near)}? " if near else ""
        parts.append(f"{question}known: {join_names(known, limit)}")
    return "; ".join(parts)


def short_repr(value: object) -> str:
    """Return ``repr(value)`` for a message, cut to 300 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or too deeply nested tables
        return "a value too large to show"
    return text if len(text) <= 300 else f"{text[:300]} and so on"
