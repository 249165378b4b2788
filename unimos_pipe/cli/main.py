"""``unimos-pipe``: the command group. Heavy libraries are imported inside commands, so help answers at once."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

import click

from unimos_pipe import __version__
from unimos_pipe.base.plugins import load_plugin
from unimos_pipe.base.terminal import Output, escape_control_chars
from unimos_pipe.base.waits import waits_told_to
from unimos_pipe.cli.adapt import adapt
from unimos_pipe.cli.bench import bench
from unimos_pipe.cli.cache import cache
from unimos_pipe.cli.click_classes import Group, expand_home
from unimos_pipe.cli.compare import compare
from unimos_pipe.cli.demo import demo
from unimos_pipe.cli.encoder import encoder
from unimos_pipe.cli.error_handling import SigTerm, run_with_error_handling
from unimos_pipe.cli.export import export
from unimos_pipe.cli.extract import extract
from unimos_pipe.cli.label import label
from unimos_pipe.cli.manifest import manifest
from unimos_pipe.cli.photos import photos
from unimos_pipe.cli.predict import predict
from unimos_pipe.cli.report import report
from unimos_pipe.cli.rerun import rerun
from unimos_pipe.cli.review import review
from unimos_pipe.cli.run import run
from unimos_pipe.cli.sort import sort
from unimos_pipe.cli.sweep import sweep


@contextlib.contextmanager
def _terminated_as_interrupt() -> Iterator[None]:
    def stop(*_):
        raise SigTerm

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


class _Group(Group):
    """One door for every command: whatever goes wrong is one line and an exit code."""

    def main(self, args: Sequence[str] | None = None, *others, standalone_mode: bool = True, **extra):
        """Run a command line and exit: 0 done, 1 failed, 2 the user's mistake, 130 or 143 interrupted."""
        words = [expand_home(word) for word in (sys.argv[1:] if args is None else args)]
        with _terminated_as_interrupt():
            code = run_with_error_handling(
                lambda: super(_Group, self).main(words, *others, standalone_mode=False, **extra)
            )
        sys.exit(code)

    def invoke(self, ctx: click.Context):
        """Run the command; fail if its output could not be written."""
        with waits_told_to(lambda text: click.echo(escape_control_chars(text), err=True)):
            result = super().invoke(ctx)
        if isinstance(ctx.obj, Output):
            ctx.obj.close()
        return result


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="unimos-pipe")
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    envvar="UNIMOS_PLUGINS",
    show_envvar=True,
    metavar="MODULE|FILE.py",
    help="Import this first: it registers methods, losses, encoders or validators of your own. Installed ones need "
    "no option.",
)
def main(plugins: tuple[str, ...]) -> None:
    """Adapt frozen CLIP to an unlabelled domain with UniMoS (CVPR 2024).

    Stage one, extract, runs CLIP's encoders once and caches their features. Stage two, adapt, trains the light heads
    on the cache in seconds per epoch. New here? Try: unimos-pipe demo

    \b
    Exit codes:
      0    done; warnings are on stderr
      1    the work failed, or a check found problems: a run that diverged, unreadable
           images, a full disk, cache verify, manifest check
      2    invalid command line or input file; nothing was changed
      130  stopped by Ctrl-C, 143 by SIGTERM; the same command resumes
    """
    for module in plugins:
        load_plugin(module)


for command in (
    photos,
    extract,
    adapt,
    sweep,
    run,
    rerun,
    report,
    compare,
    predict,
    export,
    sort,
    review,
    label,
    demo,
    manifest,
    encoder,
    cache,
    bench,
):
    main.add_command(command)
