"""``unimos-pipe bench``: how fast this machine is at each stage."""

import statistics
import tempfile
from pathlib import Path

import click

from unimos_pipe.cli.bench_adapt import bench_adapt
from unimos_pipe.cli.extract import sizes_option
from unimos_pipe.cli.options import DataOptions, data_options, device_option
from unimos_pipe.console import Output
from unimos_pipe.errors import UserError
from unimos_pipe.scan import find_root, scan


@click.group()
def bench() -> None:
    """Measure this machine: both stages, and loading the cache."""


bench.add_command(bench_adapt)


@bench.command("extract")
@data_options
@click.option("--data-root", type=click.Path(path_type=Path), metavar="DIR", help="Images, as for extract.")
@click.option(
    "--random-weights", is_flag=True, help="Random weights of --model or the preset, where there are no real."
)
@click.option("--images", type=click.IntRange(1), default=1120, show_default=True, help="Most images, of all domains.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="Repetitions, in turn.")
@click.option("--plain", type=click.IntRange(0), default=0, metavar="N", help="Compare with a plain loop on N images.")
@sizes_option
@device_option
@click.pass_obj
def bench_extract(
    output: Output,
    data: DataOptions,
    data_root: Path | None,
    random_weights: bool,
    images: int,
    rounds: int,
    plain: int,
    batch_size: int | str,
    workers: int | None,
    device: str,
) -> None:
    """Images per second of stage one, against its encoder and its decoder alone.

    The bare encoder gets the same batch, already on the device, again and again. On a CPU decoding shares the
    encoder's cores: the bound is what is left if both only take turns.

    \b
    Example:
      unimos-pipe bench extract --dataset pacs --data-root ~/PACS --encoder RN50 --random-weights \\
        --precision auto --plain 256
    """
    from dataclasses import replace

    from unimos_pipe import bench as measure
    from unimos_pipe.cli.extract import chosen_sizes, sample_files
    from unimos_pipe.device import pick_device
    from unimos_pipe.encoder import ClipEncoder, load_encoder, readable_sample

    spec = data.dataset
    root = find_root(spec, data_root, data.cache)
    manifests = [scan(spec, part, root) for name in spec.domains for part in spec.parts(name)]
    rows = measure.mixed_rows(manifests, images)
    where = pick_device(device)
    with tempfile.TemporaryDirectory() as folder:
        chosen = data.encoder
        if random_weights:
            chosen = replace(chosen, pretrained=str(measure.random_weights(chosen.model, Path(folder))))
        encoder = load_encoder(chosen, where, sample_files(manifests))
        reference = ClipEncoder(replace(chosen, precision="fp32"), where) if plain else None
    sample = readable_sample([rows.root / path for path in rows.paths[:128]], encoder.preprocess)
    if sample is None:
        raise UserError(f"none of the first images in {rows.root} can be read")
    batch, workers = chosen_sizes(output, encoder, sample, batch_size, workers)
    pixels = sample.repeat(-(-batch // len(sample)), 1, 1, 1)[:batch]
    output.note(
        f"{encoder.identity.model}, {encoder.identity.precision} on {where}, batches of {batch}, {workers} worker(s), "
        f"{len(rows)} images, {rounds} round(s) in turn; medians"
    )
    with output.progress("measuring", rounds, "rounds") as advance:
        results = []
        for result in measure.measure_extract(rows, encoder, pixels, batch, workers, rounds):
            results.append(result)
            advance(1)
    names = {"bare": "bare encoder", "decode": "decode and preprocess only", "end_to_end": "end to end"}
    medians = {name: statistics.median(getattr(result, name) for result in results) for name in names}
    bound = (
        1 / (1 / medians["bare"] + 1 / medians["decode"])
        if where.type == "cpu"
        else min(medians["bare"], medians["decode"])
    )
    ratio = statistics.median(result.end_to_end / result.bare for result in results)
    output.table(
        "stage one on this machine, images/s",
        ["", "images/s", "of bare"],
        [[label, f"{medians[name]:.1f}", f"{medians[name] / medians['bare']:.1%}"] for name, label in names.items()]
        + [["bound set by the first two", f"{bound:.1f}", f"{bound / medians['bare']:.1%}"]],
    )
    resident, on_gpu = measure.peak_bytes(where)
    written = statistics.median(result.written for result in results)
    memory = f"{resident / 1e6:,.0f} MB" + (f", {on_gpu / 1e6:,.0f} MB on the GPU" if on_gpu else "")
    output.result(
        f"end to end / bare, median of {rounds} pairs: {ratio:.1%}. Written {written / 1e3:,.0f} kB/s. "
        f"Peak memory {memory}."
    )
    if reference is not None:
        _against_plain_loop(
            output, measure, encoder, reference, measure.mixed_rows(manifests, plain), batch, workers, rounds
        )


def _against_plain_loop(output, measure, encoder, reference, rows, batch, workers, rounds) -> None:
    pairs = []
    for _ in range(rounds):
        expected, plain_rate = measure.plain_loop(reference, rows)
        found, rate = measure.extracted(encoder, rows, batch, workers)
        pairs.append((rate, plain_rate))
    gain = statistics.median(rate / plain_rate for rate, plain_rate in pairs)
    cosine = measure.smallest_cosine(found, expected)
    rates = [statistics.median(side) for side in zip(*pairs, strict=True)]
    output.result(
        f"plain loop (open_clip, fp32, DataLoader of {measure.PLAIN_BATCH}, no workers) on {len(rows)} images: "
        f"{rates[1]:.1f} images/s against {rates[0]:.1f}, {gain:.1f} times (median of {rounds} pairs); smallest cosine "
        f"to its features, means subtracted: {cosine:.5f}"
    )


@bench.command("store")
@click.option("--rows", type=click.IntRange(1), default=120_000, show_default=True, help="Rows of the domain.")
@click.option("--dim", type=click.IntRange(1), default=512, show_default=True, help="Dimensions of a feature.")
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True, help="Repetitions, in turn.")
@click.pass_obj
def bench_store(output: Output, rows: int, dim: int, rounds: int) -> None:
    """Seconds to load and verify a domain, against a plain read of the same bytes."""
    from unimos_pipe.bench import store_times

    with tempfile.TemporaryDirectory() as folder:
        times = store_times(Path(folder), rows, dim, rounds)
    load, plain = (statistics.median(side) for side in zip(*times, strict=True))
    ratio = statistics.median(first / second for first, second in times)
    output.result(
        f"{rows:,} x {dim} float16: loaded and verified in {1000 * load:.0f} ms, read in {1000 * plain:.0f} ms, "
        f"{ratio:.2f} times (median of {rounds} pairs)"
    )
