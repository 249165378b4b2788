"""``unimos-pipe bench``: how fast this machine is at each stage."""

import statistics
import tempfile
from pathlib import Path

import click

from unimos_pipe.base.console import Output
from unimos_pipe.base.errors import UserError
from unimos_pipe.cli.bench_adapt import bench_adapt
from unimos_pipe.cli.extract import sizes_option
from unimos_pipe.cli.options import DataOptions, data_options, device_option
from unimos_pipe.data.scan import find_root, scan


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

    from unimos_pipe.base.device import pick_device
    from unimos_pipe.bench import extract as measure
    from unimos_pipe.cli.extract import chosen_sizes, sample_files
    from unimos_pipe.extract.encoder import load_encoder, plain_model, readable_sample
    from unimos_pipe.extract.weights import find_weights

    spec = data.dataset
    root = find_root(spec, data_root, data.cache)
    manifests = [scan(spec, part, root) for name in spec.domains for part in spec.parts(name)]
    rows = measure.mixed_rows(manifests, images)
    place = pick_device(device)
    with tempfile.TemporaryDirectory() as folder:
        chosen = data.encoder
        if random_weights:
            chosen = replace(chosen, pretrained=str(measure.random_weights(chosen.model, Path(folder))))
        encoder = load_encoder(chosen, place, sample_files(manifests))
        full = replace(chosen, precision="fp32")
        reference = plain_model(full, find_weights(full), place) if plain else None
    sample = readable_sample([rows.root / path for path in rows.paths[:128]], encoder.preprocess)
    if sample is None:
        raise UserError(f"none of the first images in {rows.root} can be read")
    batch, workers = chosen_sizes(output, encoder, sample, batch_size, workers)
    pixels = sample.repeat(-(-batch // len(sample)), 1, 1, 1)[:batch]
    output.note(
        f"{encoder.identity.model}, {encoder.identity.precision} on {place}, batches of {batch}, {workers} worker(s), "
        f"{len(rows)} images, {rounds} round(s) in turn; medians"
    )
    with output.progress("measuring", rounds, "rounds") as advance:
        results = []
        for result in measure.measure_extract(rows, encoder, pixels, batch, workers, rounds):
            results.append(result)
            advance(1)
    _show_rates(output, results, place.type == "cpu", *measure.peak_bytes(place))
    if reference is not None:
        few = measure.mixed_rows(manifests, plain)
        pairs = []
        for _ in range(rounds):
            expected, plain_rate = measure.plain_loop(*reference, place, few)
            found, rate = measure.extracted(encoder, few, batch, workers)
            pairs.append((rate, plain_rate))
        _show_gain(output, pairs, len(few), measure.PLAIN_BATCH, measure.smallest_cosine(found, expected))


def _show_rates(output: Output, results: list, shared_cores: bool, resident: int, on_gpu: int) -> None:
    names = {"bare": "bare encoder", "decode": "decode and preprocess only", "end_to_end": "end to end"}
    medians = {name: statistics.median(getattr(result, name) for result in results) for name in names}
    bare, decode = medians["bare"], medians["decode"]
    bound = 1 / (1 / bare + 1 / decode) if shared_cores else min(bare, decode)
    output.table(
        "stage one on this machine, images/s",
        ["", "images/s", "of bare"],
        [[label, f"{medians[name]:.1f}", f"{medians[name] / bare:.1%}"] for name, label in names.items()]
        + [["bound set by the first two", f"{bound:.1f}", f"{bound / bare:.1%}"]],
    )
    ratio = statistics.median(result.end_to_end / result.bare for result in results)
    written = statistics.median(result.written for result in results)
    memory = f"{resident / 1e6:,.0f} MB" + (f", {on_gpu / 1e6:,.0f} MB on the GPU" if on_gpu else "")
    output.result(
        f"end to end / bare, median of {len(results)} pairs: {ratio:.1%}. Written {written / 1e3:,.0f} kB/s. "
        f"Peak memory {memory}."
    )


def _show_gain(output: Output, pairs: list[tuple[float, float]], images: int, batch: int, cosine: float) -> None:
    gain = statistics.median(rate / plain_rate for rate, plain_rate in pairs)
    rate, plain_rate = (statistics.median(side) for side in zip(*pairs, strict=True))
    output.result(
        f"plain loop (open_clip, fp32, DataLoader of {batch}, no workers) on {images} images: {plain_rate:.1f} "
        f"images/s against {rate:.1f}, {gain:.1f} times (median of {len(pairs)} pairs); smallest cosine to its "
        f"features, means subtracted: {cosine:.5f}"
    )


@bench.command("store")
@click.option("--rows", type=click.IntRange(1), default=120_000, show_default=True, help="Rows of the domain.")
@click.option("--dim", type=click.IntRange(1), default=512, show_default=True, help="Dimensions of a feature.")
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True, help="Repetitions, in turn.")
@click.pass_obj
def bench_store(output: Output, rows: int, dim: int, rounds: int) -> None:
    """Seconds to load and verify a domain, against a plain read of the same bytes."""
    from unimos_pipe.bench.extract import store_times

    with tempfile.TemporaryDirectory() as folder:
        times = store_times(Path(folder), rows, dim, rounds)
    load, plain = (statistics.median(side) for side in zip(*times, strict=True))
    ratio = statistics.median(first / second for first, second in times)
    output.result(
        f"{rows:,} x {dim} float16: loaded and verified in {1000 * load:.0f} ms, read in {1000 * plain:.0f} ms, "
        f"{ratio:.2f} times (median of {rounds} pairs)"
    )
