"""``unimos-pipe``: the command group. Heavy libraries are imported inside commands, so help answers at once."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

import click

from unimos_pipe import __version__
from unimos_pipe.base.console import Output
from unimos_pipe.base.errors import PipeError
from unimos_pipe.cli.adapt import adapt
from unimos_pipe.cli.bench import bench
from unimos_pipe.cli.cache import cache
from unimos_pipe.cli.demo import demo
from unimos_pipe.cli.encoder import encoder
from unimos_pipe.cli.export import export
from unimos_pipe.cli.extract import extract
from unimos_pipe.cli.manifest import manifest
from unimos_pipe.cli.predict import predict
from unimos_pipe.cli.report import report
from unimos_pipe.cli.run import run
from unimos_pipe.cli.sweep import sweep


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as orderly as Ctrl-C does."""


@contextlib.contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    def stop(*_):
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# Before torch loads OpenMP: threads that wait for long sleep instead of spinning. Two runs on two cores otherwise take
# each other's time slices (250 ms a step where one alone takes 8; 57 ms with this, which costs one alone nothing).
os.environ.setdefault("GOMP_SPINCOUNT", "20000")


class _Group(click.Group):
    """Turns the library's errors into one line and an exit code."""

    def invoke(self, ctx: click.Context):
        try:
            with _terminated_as_interrupt():
                return super().invoke(ctx)
        except PipeError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt as stop:
            word, code = ("Terminated", 143) if isinstance(stop, _Terminated) else ("Interrupted", 130)
            click.echo(f"{word}. Finished shards and runs are kept; the same command goes on from there.", err=True)
            sys.exit(code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="unimos-pipe")
@click.option("-q", "--quiet", is_flag=True, help="Only results and warnings.")
@click.option("-v", "--verbose", is_flag=True, help="Also say where things come from and go.")
@click.pass_context
def main(ctx: click.Context, quiet: bool, verbose: bool) -> None:
    """Adapt frozen CLIP to an unlabelled domain with UniMoS (CVPR 2024).

    Stage one, extract, runs CLIP's encoders once and caches their features. Stage two, adapt, trains the light heads
    on the cache in seconds per epoch. New here? Try: unimos-pipe demo
    """
    if quiet and verbose:
        raise click.UsageError("-q and -v exclude each other")
    ctx.obj = Output(-1 if quiet else int(verbose))


for command in (extract, adapt, sweep, run, report, predict, export, demo, manifest, encoder, cache, bench):
    main.add_command(command)
