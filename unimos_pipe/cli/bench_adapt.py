"""``unimos-pipe bench adapt``: the speed of stage two on this machine."""

from statistics import median

import click

import unimos_pipe
from unimos_pipe.base.errors import InputError
from unimos_pipe.base.method_config import method_spec, parse_setting
from unimos_pipe.base.terminal import Output
from unimos_pipe.cli.click_classes import Command, SuggestingChoice
from unimos_pipe.cli.json_output import json_options, print_json
from unimos_pipe.cli.next_command import suggest_next
from unimos_pipe.cli.options import device_option, unique_dict

SIZE_NAMES = ("office_home", "icons", "domainnet")
PRECISIONS = ("fp32", "fp64", "bf16", "auto")


@click.command("adapt", cls=Command)
@click.option(
    "--size", type=SuggestingChoice(SIZE_NAMES), default="office_home", show_default=True, help="Size of the task."
)
@click.option("--stack", "stacks", type=click.IntRange(1), multiple=True, help="Stack sizes to time; repeatable.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change an option of the method, as in adapt."
)
@click.option("--profile", "profiled", is_flag=True, help="Also say which operators a lone step spends its time in.")
@click.option(
    "--compare-rounds",
    "compare_rounds",
    type=click.IntRange(1),
    metavar="ROUNDS",
    help="Instead: epochs of a plain torch program and of stacks (default: 1 and 12 runs) in turn.",
)
@click.option(
    "--train-precision",
    "precisions",
    type=SuggestingChoice(PRECISIONS),
    multiple=True,
    help="With --compare-rounds: the arithmetic of the stacks; repeatable. The reference program is fp32.",
)
@device_option
@json_options
@click.pass_obj
def bench_adapt(
    output: Output,
    size: str,
    stacks: tuple[int, ...],
    settings: tuple[str, ...],
    profiled: bool,
    compare_rounds: int | None,
    precisions: tuple[str, ...],
    device: str,
) -> None:
    """Time stage two on random features, or beside a reference program.

    The share of the matrix rate says how much of this machine's own speed at one large matrix product (measured in
    the same run, same arithmetic) the counted products of a lone step reach.

    The reference program is one run of UniMoS with nn.Modules, autograd and torch's SGD; it evaluates after each epoch,
    as ours do, who also compute the validators. Gains are its seconds over ours, round by round; faults are minor page
    faults.

    \b
    Examples:
      unimos-pipe bench adapt --size office_home --stack 1 --stack 12 --profile
      unimos-pipe bench adapt --compare-rounds 7 --train-precision fp32 --train-precision bf16
    """
    method = method_spec("full", unique_dict("--set", map(parse_setting, settings)), "bench adapt")
    if compare_rounds:
        if profiled:
            raise InputError("--profile tells of a lone step by itself; leave out --compare-rounds")
        found = unimos_pipe.bench_compare_reference(
            size, method, stacks or (1, 12), precisions, compare_rounds, device=device, reporter=output
        )
        print_json(output, found, " --compare-rounds")
        show_against_plain(output, size, found)
        suggest_next(output, "sweep", "RECIPE")
        return
    if precisions:
        raise InputError("--train-precision goes with --compare-rounds; without, say --set train.precision=bf16")
    bench = unimos_pipe.bench_adapt(size, method, stacks, profiled=profiled, device=device)
    print_json(output, bench)
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
    suggest_next(output, "sweep", "RECIPE")


def show_against_plain(output: Output, size: str, found: "unimos_pipe.ReferenceComparison") -> None:
    """Print what :func:`unimos_pipe.bench_compare_reference` measured."""
    reference = found.reference
    rows = [[reference.name, f"{median(reference.seconds):.3f}", "", "", f"{median(reference.faults):.1f}"]]
    for turns in found.stacks:
        ratios = turns.ratios(reference)
        compared = f"{median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}"
        rows.append([turns.name, f"{median(turns.seconds):.3f}", *compared, f"{median(turns.faults):.1f}"])
    output.table(
        f"{size} on {found.device}: an epoch of each in turn, medians of {len(reference.seconds)} round(s)",
        ["", "s per run", "gain", "from and to", "faults per step"],
        rows,
    )
    before, after = found.load
    output.result(
        f"load average {before:.1f} before and {after:.1f} after; this process used {found.cores_used:.2f} of "
        f"{found.cores} core(s)"
    )
