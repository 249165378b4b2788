"""``unimos-pipe extract``: stage one."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from unimos_pipe.base.console import Output
from unimos_pipe.base.errors import UserError
from unimos_pipe.base.files import writable_folder
from unimos_pipe.cli.options import DataOptions, data_options, data_root_options, device_option, engine_options
from unimos_pipe.data.manifest import DatasetSpec, Manifest
from unimos_pipe.data.scan import count_warning, find_root, scan


class _BatchSize(click.ParamType):
    """A positive number, or ``auto``."""

    name = "N|auto"

    def convert(self, value, param, ctx):
        """The number, or the word as it is."""
        return value if value == "auto" else click.IntRange(1).convert(value, param, ctx)


def sizes_option(command: Callable) -> Callable:
    """Add ``--batch-size`` and ``--workers``."""
    command = click.option(
        "--workers", type=click.IntRange(0), help="Processes that decode images. Default: 2, on a GPU one per core."
    )(command)
    return click.option(
        "--batch-size",
        type=_BatchSize(),
        default=64,
        show_default=True,
        help="Images per encoder call; auto measures what the device is fastest with.",
    )(command)


@click.command()
@click.option("--domain", "domains", multiple=True, metavar="NAME", help="Domain to encode; repeatable.")
@click.option("--all", "every", is_flag=True, help="Encode every domain of the data set.")
@data_options
@data_root_options
@sizes_option
@device_option
@click.option("--shard-size", type=click.IntRange(1), default=4096, show_default=True, help="Most rows in a shard.")
@click.option(
    "--on-error",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="Unreadable images: fail after the good shards are written, or leave them out and list them.",
)
@engine_options
@click.option("--force", is_flag=True, help="Encode again even what is there.")
@click.pass_obj
def extract(
    output: Output,
    domains: tuple[str, ...],
    every: bool,
    data: DataOptions,
    data_root: Path | None,
    strict_counts: bool,
    batch_size: int | str,
    workers: int | None,
    device: str,
    shard_size: int,
    on_error: str,
    engine: str,
    address: str | None,
    cpus_per_job: float,
    force: bool,
) -> None:
    """Stage one: encode a domain's images and prompts into the cache.

    \b
    Examples:
      unimos-pipe extract --domain art --data-root ~/OfficeHome
      unimos-pipe extract --dataset icons --all

    Images whose contents are known keep their features, wherever they lie and whatever their class is called; only
    new ones are encoded. An interrupted command goes on where it was.
    """
    spec = data.dataset
    if bool(domains) == every:
        raise UserError(f"say which domains: --domain NAME (known: {', '.join(spec.domains)}) or --all")
    names = tuple(dict.fromkeys(domains)) or tuple(spec.domains)
    for name in names:
        spec.domain(name)
    encode(
        output,
        data,
        names,
        data_root,
        device,
        strict_counts=strict_counts,
        batch_size=batch_size,
        workers=workers,
        shard_size=shard_size,
        skip_bad=on_error == "skip",
        force=force,
        ray=(address, cpus_per_job) if engine == "ray" else None,
    )


def encode(
    output: Output,
    data: DataOptions,
    names: Sequence[str],
    root: Path | None,
    device: str,
    *,
    strict_counts: bool = False,
    batch_size: int | str = 64,
    workers: int | None = None,
    force: bool = False,
    ray: tuple[str | None, float] | None = None,
    **reading,
) -> Path:
    """Stage one for some domains, everything checked before the encoder is loaded; returns the encoder's folder.

    ``ray`` (address or None, cores per job) makes the shards on a Ray cluster; ``reading`` are further keyword options
    of :func:`unimos_pipe.extract.domain.extract_images`.
    """
    spec = data.dataset
    writable_folder(data.cache, "--cache")
    root = find_root(spec, root, data.cache)
    manifests = [scan(spec, part, root) for name in names for part in spec.parts(name)]
    _check_counts(output, spec, manifests, strict_counts)

    from unimos_pipe.base.device import pick_device
    from unimos_pipe.cache.identity import encoder_id
    from unimos_pipe.extract.domain import extract_images, extract_text
    from unimos_pipe.extract.encoder import load_encoder, readable_sample

    encoder = load_encoder(data.encoder, pick_device(device), sample_files(manifests))
    folder = data.cache / spec.name / encoder_id(data.encoder, encoder.identity)
    output.detail(
        f"encoder {encoder.identity.model}, weights sha256 {encoder.identity.weights_sha256}, "
        f"{encoder.identity.precision} on {encoder.device}; cache {folder}"
    )
    for name in names:
        word = spec.domain(name).word
        extract_text(spec.name, word, spec.classes, data.templates, encoder, folder, spec.wording(), force=force)
    if data.encoder.precision == "auto":
        output.note(f"precision {encoder.identity.precision}")
    sample = readable_sample(sample_files(manifests), encoder.preprocess) if batch_size == "auto" else None
    batch_size, workers = chosen_sizes(output, encoder, sample, batch_size, workers)
    if ray:
        reading["make"] = _on_ray(data, encoder, *ray)
    for manifest in manifests:
        with output.progress(f"{spec.name}/{manifest.domain}", len(manifest), "images") as advance:
            report = extract_images(
                manifest,
                encoder,
                folder,
                batch_size=batch_size,
                workers=workers,
                force=force,
                on_rows=advance,
                **reading,
            )
        for path, reason in report.skipped:
            output.warn(f"left out {manifest.domain}/{path}: {reason}")
        rate = f", {report.encoded / report.seconds:,.0f} images/s" if report.encoded else ""
        output.note(
            f"{spec.name}/{report.domain}: {report.rows - len(report.skipped)} rows, {report.encoded} encoded, "
            f"{report.kept} kept, {report.seconds:.1f} s{rate}"
        )
    return folder


def _check_counts(output: Output, spec: DatasetSpec, manifests: Sequence[Manifest], strict: bool) -> None:
    """Tell what the scan noticed; with ``strict``, counts other than the expected ones are an error."""
    for note in (note for manifest in manifests for note in manifest.notes):
        output.warn(note)
    wrong = [warning for manifest in manifests if (warning := count_warning(spec, manifest))]
    if wrong and strict:
        raise UserError(f"--strict-counts: {'; '.join(wrong)}")
    for warning in wrong:
        output.warn(warning)


def _on_ray(data: DataOptions, encoder, address: str | None, cpus: float):
    """What makes the shards of a domain on a cluster; a job on a GPU has it for itself."""
    from functools import partial

    from unimos_pipe.base.engine import RayOptions
    from unimos_pipe.extract.on_ray import encode_on_ray

    options = RayOptions(address, cpus, 1.0 if encoder.device.type == "cuda" else 0.0)
    return partial(encode_on_ray, spec=data.encoder, options=options)


def sample_files(manifests: Sequence[Manifest]) -> list[Path]:
    """At most 64 images of all domains, evenly spaced, on which precision and batch size are decided."""
    files = [manifest.root / path for manifest in manifests for path in manifest.paths]
    return files[:: max(1, len(files) // 64)][:64]


def chosen_sizes(output: Output, encoder, sample, batch_size: int | str, workers: int | None) -> tuple[int, int]:
    """Batch size and workers as numbers; ``auto`` is measured on ``sample``, (n, H, W, 3) uint8 pixels or None."""
    if workers is None:
        workers = 2 if encoder.device.type == "cpu" else len(os.sched_getaffinity(0))
    if batch_size != "auto":
        return batch_size, workers
    if sample is None:
        raise UserError("--batch-size auto: none of the images tried can be read; give a number")
    from unimos_pipe.bench.extract import best_batch

    rates = {}
    batch_size = best_batch(encoder, sample, rates.__setitem__)
    tried = ", ".join(f"{size}: {rate:.0f}" for size, rate in rates.items())
    output.note(f"batch size {batch_size} (images/s {tried})")
    return batch_size, workers
