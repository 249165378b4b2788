"""``unimos-pipe bench``: how fast this machine is at each stage."""

from pathlib import Path
from statistics import median

import click

import unimos_pipe
from unimos_pipe.base.terminal import Output
from unimos_pipe.cache.feature_set import FeatureSet
from unimos_pipe.cli.bench_adapt import SIZE_NAMES, bench_adapt
from unimos_pipe.cli.bench_methods import bench_methods
from unimos_pipe.cli.click_classes import Group, SuggestingChoice
from unimos_pipe.cli.feature_options import features_options
from unimos_pipe.cli.json_output import json_options, print_json
from unimos_pipe.cli.next_command import suggest_next
from unimos_pipe.cli.options import batch_size_option, device_option, option_group, workers_option


@click.group(cls=Group)
def bench() -> None:
    """Benchmark both stages, the cache, methods and memory."""


bench.add_command(bench_adapt)
bench.add_command(bench_methods)


def _trial(images: int, rounds: int, baseline_images: int, random_weights: bool) -> "unimos_pipe.ExtractTrial":
    return unimos_pipe.ExtractTrial(
        images=images, rounds=rounds, baseline_images=baseline_images, random_weights=random_weights
    )


def _reading(batch_size: int | str, workers: int | None) -> "unimos_pipe.ExtractOptions":
    return unimos_pipe.ExtractOptions(batch_size=batch_size, workers=workers)


@bench.command("extract")
@features_options
@click.option("--data-root", type=click.Path(path_type=Path), metavar="DIR", help="Images, as for extract.")
@option_group(
    "trial",
    _trial,
    click.option("--random-weights", is_flag=True, help="Use random weights for the encoder."),
    click.option(
        "--images",
        type=click.IntRange(1),
        default=1120,
        show_default=True,
        help="Largest number of images, over all domains.",
    ),
    click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Repetitions, alternating."),
    click.option(
        "--baseline-images",
        type=click.IntRange(0),
        default=0,
        metavar="N",
        help="Compare with hand-written loops on N images.",
    ),
)
@option_group("reading", _reading, batch_size_option, workers_option)
@device_option
@json_options
@click.pass_obj
def bench_extract(
    output: Output,
    features: FeatureSet,
    data_root: Path | None,
    trial: "unimos_pipe.ExtractTrial",
    reading: "unimos_pipe.ExtractOptions",
    device: str,
) -> None:
    """Images per second of stage one, and of its parts alone.

    The bare encoder gets the same batch, already on the device, again and again. On a CPU decoding shares the
    encoder's cores; the bound assumes that they alternate.

    \b
    Example:
      unimos-pipe bench extract --dataset pacs --data-root ~/PACS --encoder RN50 --random-weights \\
        --encoder-precision auto --baseline-images 256
    """
    rates = unimos_pipe.bench_extract(features, data_root, trial, options=reading, device=device, reporter=output)
    print_json(output, rates)
    bare = rates.median("bare")
    names = {"bare": "bare encoder", "decode": "decode and preprocess only", "end_to_end": "end to end"}
    output.table(
        "stage one on this machine, images/s",
        ["", "images/s", "of bare"],
        [[label, f"{rates.median(name):.1f}", f"{rates.median(name) / bare:.1%}"] for name, label in names.items()]
        + [["bound set by the first two", f"{rates.bound:.1f}", f"{rates.bound / bare:.1%}"]],
    )
    on_gpu = f", {rates.gpu_bytes / 1e6:,.0f} MB on the GPU" if rates.gpu_bytes else ""
    output.result(
        f"end to end / bare, median of {len(rates.rounds)} pairs: {rates.share:.1%}. Written "
        f"{rates.median('written') / 1e3:,.0f} kB/s. Peak memory {rates.resident_bytes / 1e6:,.0f} MB{on_gpu}."
    )
    if rates.speedup:
        _show_speedup(output, rates.speedup)
    suggest_next(output, "extract", "--all")


def _show_speedup(output: Output, speedup: "unimos_pipe.bench.extract.BaselineSpeedup") -> None:
    rate, simple_rate, tuned_rate = (median(side) for side in zip(*speedup.rates, strict=True))
    times, tuned_times = (median(round_[0] / round_[side] for round_ in speedup.rates) for side in (1, 2))
    output.result(
        f"simple loop (open_clip, fp32, DataLoader of {speedup.batch}, no workers) on {speedup.images} images: "
        f"{simple_rate:.1f} images/s against {rate:.1f}, {times:.1f} times (median of {len(speedup.rates)} pairs); "
        f"smallest cosine to its features, means subtracted: {speedup.cosine:.5f}"
    )
    output.result(f"tuned loop (the same, {speedup.tuned}): {tuned_rate:.1f} images/s, {tuned_times:.2f} times")


@bench.command("store")
@click.option("--rows", type=click.IntRange(1), default=120_000, show_default=True, help="Rows of the domain.")
@click.option("--dim", type=click.IntRange(1), default=512, show_default=True, help="Dimensions of a feature.")
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True, help="Repetitions, alternating.")
@json_options
@click.pass_obj
def bench_store(output: Output, rows: int, dim: int, rounds: int) -> None:
    """Seconds to load and verify a domain, and to read its bytes."""
    times = unimos_pipe.bench_store(rows, dim, rounds)
    print_json(output, times)
    output.result(
        f"{rows:,} x {dim} float16: loaded and verified in {1000 * median(times.load):.0f} ms, read in "
        f"{1000 * median(times.raw_read):.0f} ms, {times.ratio:.2f} times (median of {rounds} pairs)"
    )
    suggest_next(output, "bench", "adapt")


@bench.command("memory")
@click.option(
    "--images", type=click.IntRange(1), multiple=True, default=(1_000, 20_000), show_default=True,
    help="Images to encode; repeatable.",
)  # fmt: skip
@click.option(
    "--size",
    type=SuggestingChoice(SIZE_NAMES),
    default="domainnet",
    show_default=True,
    help="Size of the task to adapt to.",
)
@click.option("--runs", type=click.IntRange(1), default=1_000, show_default=True, help="Runs to make a report of.")
@json_options
@click.pass_obj
def bench_memory(output: Output, images: tuple[int, ...], size: str, runs: int) -> None:
    """Peak memory of each stage as the data grows.

    Each trial runs in its own process: extract for few and many images (the encoding process), an epoch of
    adapt on random features, and the report of copied runs.
    """
    trials = unimos_pipe.bench_memory(images, size, runs, reporter=output)
    print_json(output, {"trials": trials})
    rows = [[trial.name, f"{trial.peak_bytes / 2**20:,.0f} MiB", f"{trial.seconds:.1f} s"] for trial in trials]
    output.table("memory at its peak", ["", "memory", "took"], rows)
    suggest_next(output, "bench", "adapt")
