"""``unimos-pipe bench adapt``: the speed of stage two on this machine."""

import click

import unimos_pipe
from unimos_pipe.base.config import method_spec, parse_setting
from unimos_pipe.base.console import Output
from unimos_pipe.cli.commands import Command, OneOf
from unimos_pipe.cli.options import device_option, each_once

SIZE_NAMES = ("office_home", "icons", "domainnet")


@click.command("adapt", cls=Command)
@click.option("--size", type=OneOf(SIZE_NAMES), default="office_home", show_default=True, help="Size of the task.")
@click.option("--stack", "stacks", type=click.IntRange(1), multiple=True, help="Stack sizes to time; repeatable.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change an option of the method, as in adapt."
)
@click.option("--profile", "profiled", is_flag=True, help="Also say which operators a lone step spends its time in.")
@device_option
@click.pass_obj
def bench_adapt(
    output: Output, size: str, stacks: tuple[int, ...], settings: tuple[str, ...], profiled: bool, device: str
) -> None:
    """Time stage two on random features: one run, stacks, memory.

    The share of the matrix rate says how much of this machine's own speed at one large matrix product (measured in
    the same run, same arithmetic) the counted products of a lone step reach.

    \b
    Example:
      unimos-pipe bench adapt --size office_home --stack 1 --stack 12 --profile
    """
    method = method_spec("full", each_once("--set", map(parse_setting, settings)), "bench adapt")
    bench = unimos_pipe.bench_adapt(size, method, stacks, profiled=profiled, device=device)
    chosen, found = bench.size, bench.times
    rows = f"{chosen.source_rows:,} + {chosen.target_rows:,} rows"
    output.table(
        f"{size}: {rows}, D = {chosen.dim}, K = {chosen.classes}, on {bench.device}",
        ["measured", "value"],
        [
            ["matrix-product rate", f"{found.matmul_rate / 1e9:,.0f} GFLOP/s"],
            ["lone step", f"{1e3 * found.step:.2f} ms"],
            ["products counted in a step", f"{found.step_flops / 1e6:,.0f} MFLOP"],
            ["share of the matrix rate", f"{100 * found.step_rate:.0f} %"],
            ["epoch without evaluation", f"{found.epoch - found.evaluation:.2f} s"],
            ["evaluation and centroids", f"{found.evaluation:.2f} s"],
            ["epoch with evaluation", f"{found.epoch:.2f} s"],
            *([f"stack of {count}", f"{1 / rate:.2f} s a run"] for count, rate in found.runs_per_second.items()),
            ["peak memory", f"{found.peak_memory / 2**30:.2f} GiB"],
        ],
    )
    if bench.shares:
        shares = [[name, f"{100 * share:.1f} %"] for name, share in bench.shares]
        output.table("time of a lone step by operator", ["operator", "share"], shares)
