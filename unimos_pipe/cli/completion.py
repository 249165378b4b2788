"""Shell completion of recipes, data sets, domains, encoders and settings."""

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

from unimos_pipe.base.encoder_presets import encoder_names
from unimos_pipe.base.errors import InputError
from unimos_pipe.base.method_config import setting_fields
from unimos_pipe.data.dataset_spec import find_spec_files, load_spec
from unimos_pipe.runs.read_recipe import known_recipes

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _of(names: Callable[[click.Context], Iterable[str]], *, files: bool = False) -> Complete:
    """Return a completion of names; with ``files`` of paths if no name matches."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        items = [CompletionItem(name) for name in sorted(names(ctx)) if name.startswith(incomplete)]
        return items or ([CompletionItem(incomplete, type="file")] if files else [])

    return complete


def _domains(ctx: click.Context) -> Iterable[str]:
    """Return the domains of the data set on the line, or of the option's default."""
    default = next((param.default for param in ctx.command.params if param.name == "dataset"), None)
    try:
        return load_spec(str(ctx.params.get("dataset") or default)).domains
    except InputError:
        return ()


recipes = _of(lambda ctx: known_recipes(), files=True)
datasets = _of(lambda ctx: find_spec_files(), files=True)
domains = _of(_domains)
encoders = _of(lambda ctx: encoder_names())
settings = _of(lambda ctx: (f"{name}=" for name, _ in setting_fields(str(ctx.params.get("method") or ""))))
