"""``unimos-pipe report``: finished runs as one page, tables and figures."""

import importlib.util
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from unimos_pipe.base.console import Output
from unimos_pipe.base.errors import UserError
from unimos_pipe.base.files import writable_folder
from unimos_pipe.cache.layout import default_cache
from unimos_pipe.cli.options import folder_option

NEEDS = {"jinja2": "jinja2", "matplotlib": "matplotlib", "sklearn": "scikit-learn"}


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN_OR_SWEEP...")
@folder_option("--out", default=Path("report"), help="Where report.html, tables/ and figures/ go.")
@click.option("--pair", metavar="SRC->TGT", help="Pair that the figures show. Default: the one that gained most.")
@folder_option(
    "--data-root",
    help="Folder that holds the domains' folders, for thumbnails. Not needed for embedded data.",
)
@folder_option(
    "--cache",
    help="Where embedded images are unpacked. Default: $UNIMOS_CACHE, else the user's cache folder.",
)
@click.pass_obj
def report(
    output: Output, runs: tuple[Path, ...], out: Path, pair: str | None, data_root: Path | None, cache: Path | None
) -> None:
    """Tables beside the paper's, figures, and one HTML page that works offline.

    \b
    Give folders of runs, of a sweep, or of many. Examples:
      unimos-pipe report runs
      unimos-pipe report runs/icons_ablation --out report --pair 'line->sketch'

    Tables are also written as Markdown, CSV and LaTeX, figures as PNG and SVG.
    """
    if missing := missing_packages():
        raise UserError(f"report needs {', '.join(missing)}", todo="Install it with: pip install 'unimos-pipe[report]'")
    write_report(output, runs, out, pair=pair, data_root=data_root, cache=cache or default_cache())


def missing_packages() -> list[str]:
    """What has to be installed before a report can be made."""
    return [package for module, package in NEEDS.items() if importlib.util.find_spec(module) is None]


def write_report(
    output: Output, runs: Sequence[Path], out: Path, *, pair: str | None, data_root: Path | None, cache: Path
) -> None:
    """Make the report of some folders' runs and say where it is."""
    writable_folder(out.parent, "--out")

    from unimos_pipe.report.page import STEPS, make_report
    from unimos_pipe.report.runs import find_runs

    started = time.perf_counter()
    experiments, left_out = find_runs(runs)
    command = shlex.join(["unimos-pipe", *sys.argv[1:]])
    count = sum(len(experiment.runs) for experiment in experiments)
    with output.progress("report", STEPS * len(experiments), "steps") as advance:
        make_report(
            experiments,
            left_out,
            out,
            command=command,
            pair=pair,
            data_root=data_root,
            cache=cache,
            on_step=advance,
        )
    for line in left_out:
        output.warn(f"left out {line}")
    output.result(f"{out / 'report.html'}: {count} run(s), {time.perf_counter() - started:.1f} s")
