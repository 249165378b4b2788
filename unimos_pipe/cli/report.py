"""``unimos-pipe report``: finished runs as one page, tables and figures."""

from pathlib import Path

import click

import unimos_pipe
from unimos_pipe.base.terminal import Output
from unimos_pipe.cli.click_classes import Command
from unimos_pipe.cli.compose_commands import command_line
from unimos_pipe.cli.json_output import json_options, print_json
from unimos_pipe.cli.next_command import is_run, suggest_next
from unimos_pipe.cli.options import folder_option


@click.command(cls=Command)
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN_OR_SWEEP...")
@folder_option("--out", default=Path("report"), help="Where report.html, tables/ and figures/ go.")
@click.option("--pair", metavar="SRC->TGT", help="Pair that the figures show. Default: the one that gained most.")
@folder_option(
    "--data-root",
    help="Folder that holds the domains' folders or the target's images, for thumbnails. Embedded data needs none.",
)
@folder_option(
    "--cache",
    help="Where embedded images are unpacked. Default: $UNIMOS_CACHE, else the user's cache folder.",
)
@json_options
@click.pass_obj
def report(
    output: Output, runs: tuple[Path, ...], out: Path, pair: str | None, data_root: Path | None, cache: Path | None
) -> None:
    """Make tables, figures and one HTML page of finished runs.

    They include the paper's figures; the page works offline.

    \b
    Give folders of runs, of a sweep, or of many. Examples:
      unimos-pipe report runs
      unimos-pipe report runs/icons_ablation --out report --pair 'line->sketch'

    Tables are also written as Markdown, CSV and LaTeX, figures as PNG, SVG and PDF; every run and class
    is a row of tables/runs.csv and tables/classes.csv, and of their JSON.
    """
    page = unimos_pipe.make_report(
        runs, out, pair=pair, root=data_root, cache=cache, format_call=command_line, reporter=output
    )
    print_json(output, page)
    show_report(output, page)
    run = runs[0] if len(runs) == 1 and is_run(runs[0]) else "RUN"
    suggest_next(output, "predict", "--run", run, "--images", "DIR", "-o", "answers.csv")


def show_report(output: Output, report: "unimos_pipe.Report") -> None:
    """Print where the page is and what it leaves out."""
    for line in report.skipped:
        output.warn(f"skipped {line}")
    output.result(f"{report.page}: {report.runs} run(s), {report.seconds:.1f} s")
