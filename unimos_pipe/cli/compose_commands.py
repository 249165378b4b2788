"""Options for the parameters, and command lines for the calls, that the library names; composed here alone."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from unimos_pipe.base.encoder_presets import encoder_name, find_encoder
from unimos_pipe.base.errors import Argument, Call, UnimosPipeError
from unimos_pipe.base.method_config import EncoderSpec

PROGRAM = "unimos-pipe"
COMMANDS = {  # of a function
    "adapt_pairs": "adapt",
    "choose_images_to_label": "label next",
    "create_dataset_spec": "manifest scan",
    "extract_features": "extract",
    "import_features": "cache import",
    "make_report": "report",
    "run_sweep": "sweep",
    "sort_photos": "sort",
    "unpack_images": "manifest unpack",
    "update_dataset_spec": "manifest update",
}
PARAMETERS = {  # of a function: of a command, where they differ
    "images": "with_encoder",
    "precision": "encoder_precision",
    "root": "data_root",
    "runs": "runs_folder",
    "words": "domain_words",
}
VALUES = {("skip_bad", True): ("on_error", "skip")}


def join_command(*words: object) -> str:
    """Return a command line of the program, quoted for a shell."""
    return shlex.join([PROGRAM, *map(str, words)])


def in_command_words(error: UnimosPipeError, command: click.Command) -> str:
    """Return an error's message with the options of the command that runs, and with command lines for calls."""
    return "".join(part if isinstance(part, str) else _show(part, command) for part in error.parts)


def _show(part: Argument | Call, command: click.Command) -> str:
    if isinstance(part, Call):
        return command_line(part) if part.function in COMMANDS else str(part)
    name, value = VALUES.get((part.name, part.value), (part.name, part.value))
    for candidate in (command, *_all_commands(_main())):
        if option := _find_option(candidate, name):
            flag = max(option.opts, key=len)
            return flag if value is None or value is True else f"{flag} {value}"
    return str(part)


def command_line(call: Call) -> str:
    """Return the command line that does what a call of the library does."""
    words = COMMANDS[call.function].split()
    command = _main()
    for word in words:
        command = command.commands[word]
    positional: list[object] = []
    options: list[object] = []
    for name, value in _flatten(call):
        option = _find_option(command, name)
        if option is None:
            positional += value if isinstance(value, list | tuple) else [value]
        else:
            options += _option_words(option, value)
    if call.function == "extract_features" and "domains" not in call.arguments:
        options.append("--all")
    return join_command(*words, *positional, *options)


def _main() -> click.Group:
    return click.get_current_context().find_root().command


def _all_commands(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield command
        if isinstance(command, click.Group):
            yield from _all_commands(command)


def _find_option(command: click.Command, name: str) -> click.Option | None:
    """Return the command's option of a function's parameter; None where it has none."""
    options = {param.name: param for param in command.params if isinstance(param, click.Option)}
    return options.get(PARAMETERS.get(name, name)) or options.get(name)


def _option_words(option: click.Option, value: Any) -> list[object]:
    flag = max(option.opts, key=len)
    if isinstance(value, bool):
        return [flag] if value else [max(option.secondary_opts, key=len)]
    values = value if isinstance(value, list | tuple) else [value]
    return [word for entry in values for word in (flag, entry)]


def _flatten(call: Call) -> Iterator[tuple[str, Any]]:
    """Yield the arguments of a call, and of the calls that make them, as a command has them."""
    for name, value in call.arguments.items():
        match name, value:
            case _, Call():
                yield from _flatten(value)
            case "encoder", EncoderSpec():
                yield from _encoder_options(value)
            case "pairs", [(source, target)]:
                yield from (("sources", source.split("+")), ("target", target))
            case "seeds", (first, *rest):
                yield from [("seed", first)] if first else []
                yield from [("seeds", 1 + len(rest))] if rest else []
            case "settings", dict():
                shown = {key: json.dumps(entry) if isinstance(entry, bool) else entry for key, entry in value.items()}
                yield name, [f"{key}={entry}" for key, entry in shown.items()]
            case "words", dict():
                yield name, [f"{domain}={word}" for domain, word in value.items()]
            case _:
                yield name, value


def _encoder_options(encoder: EncoderSpec) -> Iterator[tuple[str, Any]]:
    """Yield the options that name an encoder: its preset if it has one, and what differs from it."""
    preset = encoder_name(encoder.model)
    yield ("encoder", preset) if preset else ("model", encoder.model)
    known = find_encoder(preset) if preset else EncoderSpec(pretrained="")
    for name, value in asdict(encoder).items():
        if name != "model" and value != getattr(known, name):
            yield name, ",".join(value) if name == "views" else value
