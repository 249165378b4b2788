"""``unimos-pipe rerun``: finished runs repeated from their folders."""

import sys
from pathlib import Path

import click

import unimos_pipe
from unimos_pipe.base.terminal import Output, format_percent
from unimos_pipe.cli.click_classes import Command
from unimos_pipe.cli.json_output import json_options, print_json
from unimos_pipe.cli.options import cache_option


@click.command(cls=Command)
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN_OR_SWEEP...")
@click.option("--dataset", metavar="FILE.toml", help="The data set's spec, if it is your own.")
@cache_option
@json_options
@click.pass_obj
def rerun(output: Output, runs: tuple[Path, ...], dataset: str | None, cache: Path | None) -> None:
    """Repeat finished runs from their folders, compare the bytes.

    The runs themselves stay as they are. Same machine, code and features: equal bytes.

    \b
    Examples:
      unimos-pipe rerun runs/icons/ENCODER/line-sketch/full/seed0
      unimos-pipe rerun runs/icons_ablation
    """
    repetitions = unimos_pipe.rerun(runs, dataset=dataset, cache=cache, reporter=output)
    print_json(output, {"runs": repetitions})
    for item in repetitions:
        if item.error:
            output.warn(f"{item.folder}: {item.error}")
        elif item.differing:
            code = f"; its code has changed: {', '.join(item.changed_code)}" if item.changed_code else ""
            first, again = (format_percent(value) for value in item.accuracy)
            output.warn(f"{item.folder}: {', '.join(item.differing)} differ; accuracy {first}, again {again}{code}")
    equal = sum(not item.differing and not item.error for item in repetitions)
    output.result(f"{equal} of {len(repetitions)} runs repeated to equal bytes")
    if equal < len(repetitions):
        sys.exit(1)
