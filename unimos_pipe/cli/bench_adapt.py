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
    """Time stage two on random features, or against a reference program.

    The share of the matrix rate compares the matrix products of a single step with one large matrix product,
    measured in the same run and precision.

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
            raise InputError("--profile measures a single step; omit --compare-rounds")
        comparison = unimos_pipe.bench_compare_reference(
            size, method, stacks or (1, 12), precisions, compare_rounds, device=device, reporter=output
        )
        print_json(output, comparison, " --compare-rounds")
        show_reference_comparison(output, size, comparison)
        suggest_next(output, "sweep", "RECIPE")
        return
    if precisions:
        raise InputError("--train-precision needs --compare-rounds; otherwise use --set train.precision=bf16")
    bench = unimos_pipe.bench_adapt(size, method, stacks, profile=profiled, device=device)
    print_json(output, bench)
    task_size, times = bench.size, bench.times
    rows = f"{task_size.source_rows:,} + {task_size.target_rows:,} rows"
    output.table(
        f"{size}: {rows}, D = {task_size.dim}, K = {task_size.classes}, on {bench.device}",
        ["measured", "value"],
        [
            ["matrix-product rate", f"{times.matmul_rate / 1e9:,.0f} GFLOP/s"],
            ["lone step", f"{1e3 * times.step:.2f} ms"],
            ["products counted in a step", f"{times.step_flops / 1e6:,.0f} MFLOP"],
            ["share of the matrix rate", f"{100 * times.step_rate:.0f} %"],
            ["epoch without evaluation", f"{times.epoch - times.evaluation:.2f} s"],
            ["evaluation and centroids", f"{times.evaluation:.2f} s"],
            ["epoch with evaluation", f"{times.epoch:.2f} s"],
            *([f"stack of {count}", f"{1 / rate:.2f} s a run"] for count, rate in times.runs_per_second.items()),
            ["peak memory", f"{times.peak_memory / 2**30:.2f} GiB"],
        ],
    )
    if bench.shares:
        shares = [[name, f"{100 * share:.1f} %"] for name, share in bench.shares]
        output.table("time of a lone step by operator", ["operator", "share"], shares)
    suggest_next(output, "sweep", "RECIPE")


def show_reference_comparison(output: Output, size: str, comparison: "unimos_pipe.ReferenceComparison") -> None:
    """Print what :func:`unimos_pipe.bench_compare_reference` measured."""
    reference = comparison.reference
    rows = [[reference.name, f"{median(reference.seconds):.3f}", "", "", f"{median(reference.faults):.1f}"]]
    for turns in comparison.stacks:
        ratios = turns.ratios(reference)
        compared = f"{median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}"
        rows.append([turns.name, f"{median(turns.seconds):.3f}", *compared, f"{median(turns.faults):.1f}"])
    output.table(
        f"{size} on {comparison.device}: an epoch of each in turn, medians of {len(reference.seconds)} round(s)",
        ["", "s per run", "gain", "from and to", "faults per step"],
        rows,
    )
    before, after = comparison.load
    output.result(
        f"load average {before:.1f} before and {after:.1f} after; this process used {comparison.cores_used:.2f} of "
        f"{comparison.cores} core(s)"
    )
