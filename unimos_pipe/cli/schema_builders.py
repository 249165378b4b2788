"""JSON Schemas as Python values: plain types, lists, objects, and those of dataclasses."""

import inspect
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

Schema = dict[str, Any]
FORMAT = 2
ANY: Schema = {}
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": ["number", "null"]}  # null where it is not finite
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
SHARE: Schema = {"type": ["number", "null"], "minimum": 0, "maximum": 1}


def maybe(schema: Schema) -> Schema:
    """The value, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def many(schema: Schema) -> Schema:
    """A list of such values."""
    return {"type": "array", "items": schema}


def by_name(schema: Schema, names: str) -> Schema:
    """An object with such a value by each name; ``names`` says what these are."""
    return {"type": "object", "description": f"by {names}", "additionalProperties": schema}


def record(about: str, **properties: Schema) -> Schema:
    """An object with these properties, all there."""
    return {
        "type": "object",
        "description": about,
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def document(about: str, **properties: Schema) -> Schema:
    """Return the schema of a command's document."""
    return record(about, format={"const": FORMAT}, **properties)


def record_of(cls: type, about: str) -> Schema:
    """Return the schema of a dataclass: a property per field, null where the field may be None."""
    hints = get_type_hints(cls, include_extras=True)
    return record(about, **{entry.name: _schema_of(hints[entry.name]) for entry in fields(cls)})


def _schema_of(hint: Any) -> Schema:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (UnionType, Union):  # T | None
        schema = _schema_of(next(kind for kind in arguments if kind is not NoneType))
        return schema if "null" in schema.get("type", ()) else maybe(schema)
    if origin is Annotated:
        return _schema_of(arguments[0]) | dict(arguments[1:])
    if origin is tuple:
        return many(_schema_of(arguments[0]))
    if origin is dict:
        return by_name(_schema_of(arguments[1]), "name")
    if is_dataclass(hint):
        return record_of(hint, inspect.getdoc(hint).partition("\n")[0])
    return {float: NUMBER, int: COUNT, str: TEXT, bool: FLAG}.get(hint, ANY)
