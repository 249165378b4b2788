"""``unimos-pipe compare``: folders of runs held against each other."""

from pathlib import Path

import click

import unimos_pipe
from unimos_pipe.base.atomic_io import write_text
from unimos_pipe.base.errors import InputError
from unimos_pipe.base.terminal import Output
from unimos_pipe.cli.click_classes import Command
from unimos_pipe.cli.json_output import json_options, print_json

SUFFIXES = (".md", ".csv", ".tex")


@click.command(cls=Command)
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="A B [C]...")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Also write the table: as .md, .csv or .tex."
)
@json_options
@click.pass_obj
def compare(output: Output, folders: tuple[Path, ...], out: Path | None) -> None:
    """Compare the finished runs of two folders or more, pair by pair.

    Settings of equal name are compared, each folder with the first: mean difference with its 95% interval, t-test over
    pairs and Wilcoxon's test. Below stands what sets the folders apart: settings, encoder, versions and code.

    \b
    Examples:
      unimos-pipe compare runs/before runs/after
      unimos-pipe compare runs/a runs/b runs/c --out table.tex
    """
    if out and out.suffix not in SUFFIXES:
        raise InputError(f"--out {out}", expected=f"a name that ends in {', '.join(SUFFIXES)}", got=out.name)
    comparison = unimos_pipe.compare_runs(folders)
    print_json(output, comparison)
    if out:
        write_text(out, comparison.to_text(out.suffix[1:]))
    for line in comparison.skipped:
        output.warn(f"skipped {line}")
    table = comparison.table
    output.table(table.title, list(table.columns), [[cell.text for cell in row] for row in table.rows])
    output.result(table.caption)
    for what, values in comparison.changes:
        output.result(f"{what}: {' | '.join(values)}")
    if not comparison.changes:
        output.result("settings, encoder, versions and code are the same")
