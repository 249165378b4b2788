"""``unimos-pipe demo``: both stages on the embedded data, one table."""

from pathlib import Path

import click

import unimos_pipe
from unimos_pipe.base.ray_cluster import ComputeConfig
from unimos_pipe.base.terminal import Output
from unimos_pipe.cli.click_classes import Command
from unimos_pipe.cli.next_command import suggest_next
from unimos_pipe.cli.options import cache_option, device_option, runs_option


@click.command(cls=Command)
@click.option(
    "--seeds", type=click.IntRange(1, 10_000), default=1, show_default=True, help="Runs per pair, seeds 0, 1, ..."
)
@cache_option
@device_option
@runs_option
@click.pass_obj
def demo(output: Output, seeds: int, cache: Path | None, device: str, runs_folder: Path) -> None:
    """Encode 2,514 icons in four styles and adapt 12 pairs, offline.

    Finished runs are kept in the runs folder and shown again next time. The encoder is a small CLIP trained for
    such icons, so the figures show that the pipeline works, not what a large CLIP can do.
    """
    result = unimos_pipe.demo(seeds, runs_folder, cache, compute=ComputeConfig(device), reporter=output)
    output.table(
        f"icons, tiny CLIP: accuracy on the target in %, {seeds} seed(s)",
        ["pair", "zero-shot", "UniMoS (last epoch)", "oracle best"],
        [[pair.replace("->", " -> "), *(row.format_pair(pair) for row in result.rows)] for pair in result.pairs],
        ["mean of 12 pairs", *(row.format_average(result.pairs) for row in result.rows)],
    )
    output.result(
        f"Stage one: {result.extract_seconds:.1f} s. Stage two: {result.train_seconds:.1f} s for "
        f"{result.trained} run(s), {result.kept} kept from before in {runs_folder}."
    )
    suggest_next(output, "report", runs_folder)
