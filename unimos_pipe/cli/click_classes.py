"""Command classes: -q and -v everywhere, repeated options refused, suggestions for unknown names."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from unimos_pipe.base.errors import InputError, UnimosPipeError, closest_name, suggestions
from unimos_pipe.base.terminal import Output
from unimos_pipe.cli.compose_commands import in_command_words
from unimos_pipe.cli.renamed import COMMANDS, OPTIONS

VERBOSITY = {"quiet": -1, "verbose": 1}


def _set_verbosity(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    output = ctx.ensure_object(Output)
    if value and output.verbosity == -VERBOSITY[param.name]:
        raise click.UsageError("-q and -v exclude each other", ctx)
    output.verbosity = VERBOSITY[param.name] if value else output.verbosity


def _verbosity_options() -> list[click.Option]:
    flags = {"is_flag": True, "expose_value": False, "callback": _set_verbosity}
    return [
        click.Option(["-q", "--quiet"], help="Only results and warnings.", **flags),
        click.Option(["-v", "--verbose"], help="Print file locations and other details.", **flags),
    ]


def expand_home(word: str) -> str:
    """Expand ``~/`` at the start of a word of a command line, or of an option's value after ``=``.

    A shell expands it in a word alone and not in quotes, after ``=`` or in a configuration file.
    """
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    if value != "~" and not value.startswith("~/"):
        return word
    with contextlib.suppress(RuntimeError):  # this user has no home folder
        return f"{option}{equals}{Path(value).expanduser()}"
    return word


class FolderPath(click.Path):
    """A path, also from an environment variable, in which ``~`` is expanded."""

    def convert(self, value, param, ctx):
        """Return the path."""
        return super().convert(expand_home(value) if isinstance(value, str) else value, param, ctx)


class Command(click.Command):
    """A command with -q and -v that refuses an option given repeated."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *_verbosity_options()]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options. Raises InputError naming every single-valued option that is repeated."""
        if not ctx.resilient_parsing:
            self._check_repeated(ctx, args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context):
        """Run the command; an error of the library then names options and commands instead of parameters and calls."""
        try:
            return super().invoke(ctx)
        except UnimosPipeError as error:
            message = in_command_words(error, ctx.command)
            error.args, error.parts = (message,), (message,)  # the groups around the command leave it as it is
            raise

    def _check_repeated(self, ctx: click.Context, args: Sequence[str]) -> None:
        try:
            _, _, order = self.make_parser(ctx).parse_args(list(args))
        except click.NoSuchOption as error:
            typed = _as_typed(error.option_name, args)
            options = [name for option in self.get_params(ctx) for name in (*option.opts, *option.secondary_opts)]
            raise _unknown("option", typed, (name for name in options if name.startswith("-")), ctx) from None
        counts = Counter(param for param in order if isinstance(param, click.Option) and _takes_one(param))
        if repeated := [max(option.opts, key=len) for option, count in counts.items() if count > 1]:
            raise InputError(f"given more than once: {', '.join(repeated)}. Give each option once")


def _takes_one(option: click.Option) -> bool:
    """Return True if a second value would replace the first; repeating a flag changes nothing."""
    return not option.multiple and (not option.is_flag or bool(option.secondary_opts))


def _as_typed(name: str, args: Sequence[str]) -> str:
    """The word of the line in which click met an option it does not know: of ``-epochs`` it tells ``-e``."""
    words = (word.partition("=")[0] for word in args)
    return next((word for word in words if word == name or (name[:2] != "--" and word.startswith(name))), name)


def _unknown(what: str, name: str, known: Iterable[str], ctx: click.Context) -> click.UsageError:
    known = list(known)
    for new in (OPTIONS if what == "option" else COMMANDS).get(name, ()):
        if new in known:
            return click.UsageError(f"No such {what} {name!r}. It is now {new!r}", ctx)
    near = closest_name(name, known)
    return click.UsageError(f"No such {what} {name!r}." + (f" Did you mean {near!r}?" if near else ""), ctx)


class Group(Command, click.Group):
    """A group of such commands, which suggests a command for an unknown one."""

    command_class = Command

    def resolve_command(self, ctx: click.Context, args: list[str]):
        """Return the named command. Raises click.UsageError with the nearest name for an unknown one."""
        if not ctx.resilient_parsing and args[0] not in self.commands and not args[0].startswith("-"):
            raise _unknown("command", args[0], self.commands, ctx)
        return super().resolve_command(ctx, args)


class SuggestingChoice(click.Choice):
    """A choice whose error suggests the nearest value."""

    def convert(self, value, param, ctx):
        """The word as it is."""
        if value not in self.choices:
            self.fail(f"{value!r} is not one of its values; {suggestions(str(value), self.choices)}", param, ctx)
        return super().convert(value, param, ctx)


class KnownName(click.ParamType):
    """A name of the package or from outside it; an unknown one is told with the nearest.

    ``known`` returns the names when they are asked for: those from outside are read from entry points.
    """

    def __init__(self, name: str, known: Callable[[], Sequence[str]]):
        self.name, self.known = name, known

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return the names, as click shows choices."""
        return f"[{'|'.join(self.known())}]"

    def convert(self, value, param, ctx):
        """Return the name as it is."""
        if value not in self.known():
            self.fail(f"{value!r} is not one of its values; {suggestions(str(value), self.known())}", param, ctx)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that begin so."""
        return [CompletionItem(name) for name in self.known() if name.startswith(incomplete)]


class Shard(click.ParamType):
    """A part of a whole, ``3/16``, as (3, 16)."""

    name = "K/N"

    def convert(self, value, param, ctx):
        """The two numbers."""
        if isinstance(value, tuple):
            return value
        part, slash, count = value.partition("/")
        if not (slash and part.isdecimal() and count.isdecimal() and 1 <= int(part) <= int(count)):
            self.fail(f"{value!r}: expected K/N with K from 1 to N, such as 3/16", param, ctx)
        return int(part), int(count)
