"""``--json``: output of a command as one JSON document, built from what its library function returned.

The command's schema makes it: each property is the attribute, the key, or the method without arguments of that name.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from unimos_pipe.base.terminal import Output
from unimos_pipe.cli.schema_builders import Schema
from unimos_pipe.cli.schemas import SCHEMAS

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def print_json(output: Output, value: object, form: str = "") -> None:
    """Print the document where ``--json`` asked for it; ``form`` is an option that makes it another one."""
    if output.as_document:
        output.document(json.dumps(to_json(value, SCHEMAS[_words(click.get_current_context()) + form]), indent=1))


def json_options(command: Callable) -> Callable:
    """Give a command ``--json`` and ``--json-schema``."""
    flags = {"is_flag": True, "expose_value": False}
    schema = click.option(
        "--json-schema",
        callback=_print_schema,
        is_eager=True,
        help="Print the JSON Schema of the document and exit.",
        **flags,
    )
    document = click.option(
        "--json", callback=_as_document, help="Print one JSON document, and nothing else on stdout.", **flags
    )
    return document(schema(command))


def _as_document(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    output = ctx.ensure_object(Output)
    output.as_document = output.as_document or value


def _print_schema(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        words = _words(ctx)
        schemas = [{"title": name, **schema} for name, schema in SCHEMAS.items() if name.partition(" --")[0] == words]
        click.echo(
            json.dumps({"$schema": DRAFT, **(schemas[0] if len(schemas) == 1 else {"anyOf": schemas})}, indent=1)
        )
        ctx.exit()


def _words(ctx: click.Context) -> str:
    """The command without the program's name: ``cache ls``."""
    return ctx.command_path.partition(" ")[2]


def to_json(value: Any, schema: Schema) -> Any:
    """The plain values of a schema's document; NaN and infinity are None."""
    schema = schema.get("anyOf", [schema])[0]
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if "properties" in schema:
        return {name: _part(value, name, part) for name, part in schema["properties"].items()}
    if "additionalProperties" in schema:
        return {str(name): to_json(part, schema["additionalProperties"]) for name, part in dict(value).items()}
    if "items" in schema:
        return [to_json(part, schema["items"]) for part in value]
    if isinstance(value, str | Path | Exception):
        return str(value).encode("utf-8", "backslashreplace").decode()
    return value


def _part(value: Any, name: str, schema: Schema) -> Any:
    if "const" in schema:
        return schema["const"]
    part = value.get(name) if isinstance(value, Mapping) else getattr(value, name)
    return to_json(part() if callable(part) else part, schema)
