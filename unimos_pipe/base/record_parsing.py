"""Conversion between dataclasses and the plain values of JSON files that this package wrote.

Specs that users write are parsed by :mod:`unimos_pipe.base.dataclass_parsing`, which reports all errors at once. The
package writes records itself, so unknown keys are ignored (a later version may add some) and one error is reported.
"""

import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any

from unimos_pipe.base.errors import short_repr

Record = typing.TypeVar("Record")
Convert = Callable[[Any, str], Any]
OMIT_NONE = {"omit_none": True}  # metadata of a field whose key :func:`to_plain` omits if it is None
_NAMES = {int: "an integer", str: "a text", bool: "true or false"}


class RecordError(ValueError):
    """A value that is missing or of the wrong type; the message names it."""


def to_plain(record: Any) -> dict[str, Any]:
    """Return the values of a dataclass for JSON."""
    omitted = {entry.name for entry in fields(record) if entry.metadata.get("omit_none")}
    values = {entry.name: getattr(record, entry.name) for entry in fields(record)}
    return {name: _plain(value) for name, value in values.items() if value is not None or name not in omitted}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_plain(value)
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def parse_record(cls: type[Record], values: Any, name: str = "") -> Record:
    """Return a dataclass from plain values.

    Args:
        cls: a dataclass of ``int``, ``float``, ``str``, ``bool``, ``tuple[T, ...]``, ``dict[str, T]``, dataclasses,
            ``T | None`` and ``Any``. Floats must be finite.
        values: the object of a JSON file.
        name: name of the object, for messages.
    Raises:
        RecordError: a missing key or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise RecordError(f"{name or 'the file'}: expected an object, got {short_repr(values)}")
    parsed = {}
    for key, convert, required in _converters(cls):
        if key in values:
            parsed[key] = convert(values[key], f"{name}.{key}" if name else key)
        elif required:
            raise RecordError(f"{f'{name}.{key}' if name else key} is missing")
    return cls(**parsed)


@cache
def _converters(cls: type) -> list[tuple[str, Convert, bool]]:
    """Return (name, converter, required) of each field."""
    hints = typing.get_type_hints(cls)
    return [
        (entry.name, _converter(hints[entry.name]), entry.default is MISSING and entry.default_factory is MISSING)
        for entry in fields(cls)
    ]


def _converter(hint: Any) -> Convert:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return lambda value, name: value
    if origin in (types.UnionType, typing.Union):  # T | None
        inner = _converter(next(kind for kind in arguments if kind is not type(None)))
        return lambda value, name: None if value is None else inner(value, name)
    if origin is tuple:
        return _tuple_converter(_converter(arguments[0]))
    if origin is dict:
        return _dict_converter(_converter(arguments[1]))
    if is_dataclass(hint):
        return lambda value, name: parse_record(hint, value, name)
    return _number_converter if hint is float else _scalar_converter(hint)


def _tuple_converter(inner: Convert) -> Convert:
    def convert(value: Any, name: str) -> tuple:
        if not isinstance(value, list | tuple):
            raise RecordError(f"{name}: expected a list, got {short_repr(value)}")
        return tuple(inner(item, f"{name}[{index}]") for index, item in enumerate(value))

    return convert


def _dict_converter(inner: Convert) -> Convert:
    def convert(value: Any, name: str) -> dict:
        if not isinstance(value, Mapping):
            raise RecordError(f"{name}: expected an object, got {short_repr(value)}")
        return {key: inner(item, f"{name}.{key}") for key, item in value.items()}

    return convert


def _number_converter(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RecordError(f"{name}: expected a finite number, got {short_repr(value)}")
    return value


def _scalar_converter(kind: type) -> Convert:
    def convert(value: Any, name: str) -> Any:
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise RecordError(f"{name}: expected {_NAMES[kind]}, got {short_repr(value)}")
        return value

    return convert
