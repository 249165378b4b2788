"""Suggest the next command."""

import contextlib
from collections.abc import Collection
from pathlib import Path

import click
from click.core import ParameterSource

from unimos_pipe.base.errors import UnimosPipeError
from unimos_pipe.base.terminal import Output
from unimos_pipe.cli.compose_commands import join_command
from unimos_pipe.data.dataset_spec import DatasetSpec

CARRIED = (  # parameters that mean the same in every command
    "dataset", "encoder", "model", "pretrained", "allow_torchscript", "encoder_precision", "views", "templates",
    "descriptions", "domain_words", "cache", "encoder_id", "encoder_name", "data_root", "runs_folder",
    "seeds", "protocol",
)  # fmt: skip


def suggest_next(output: Output, *words: object) -> None:
    """Suggest a command: its words, and the options of this one that mean the same there."""
    given = [str(word) for word in words]
    ctx = click.get_current_context()
    command = ctx.find_root().command
    for word in given:
        if not isinstance(command, click.Group):
            break
        command = command.commands[word]
    for option in command.params:
        name = max(option.opts, key=len)
        if option.name in CARRIED and name not in given and _was_given(ctx, option.name):
            value = ctx.params[option.name]
            values = value if isinstance(value, tuple) else [value]
            given += [name] if value is True else [part for one in values for part in (name, str(one))]
    output.suggest_command(join_command(*given))


def _was_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE


def is_run(folder: Path) -> bool:
    """Return True for the folder of a finished run, False for an export or a folder of runs."""
    from unimos_pipe.runs.write_run import RESULT  # numpy takes a while

    return (folder / RESULT).is_file()


def suggest_after_features(
    output: Output, folder: Path, spec: DatasetSpec, without_prompts: Collection[str] = ()
) -> None:
    """Suggest adapt for a data set's features by a method that they allow; if a domain is missing, how to get it.

    Args:
        without_prompts: domains whose prompts are not encoded, so that they are no targets.
    """
    from unimos_pipe.base.safe_open import list_folder
    from unimos_pipe.cache.cache_paths import is_imported, only_encoder_folder
    from unimos_pipe.cache.domain_index import read_index
    from unimos_pipe.data.manifest import NO_LABEL
    from unimos_pipe.runs.method_names import TEXT_FREE

    indexes = {}
    with contextlib.suppress(UnimosPipeError):  # a damaged domain is told when it is used
        indexes = {name: [read_index(folder / part) for part in spec.parts(name)] for name in spec.domains}
    complete = {name: parts for name, parts in indexes.items() if all(parts)}
    labelled = [name for name, parts in complete.items() if all((part.labels != NO_LABEL).all() for part in parts)]
    pairs = [(source, target) for source in labelled for target in complete if target not in {source, *without_prompts}]
    if pairs:
        source, target = min(pairs, key=lambda pair: pair[1] in labelled)  # one without labels before one with
        options = [] if list_folder(folder / "text", "*.h5") else ["--method", TEXT_FREE[0]]
        if is_imported(folder) and only_encoder_folder(folder.parents[1], folder.parent.name) is None:
            options += ["--encoder-id", folder.name]
        suggest_next(output, "adapt", "--src", source, "--tgt", target, *options)
    elif missing := [name for name in indexes if name not in complete] or [*without_prompts]:
        words = ["cache", "import", "FEATURES"] if is_imported(folder) else ["extract"]
        suggest_next(output, *words, "--domain", missing[0])
