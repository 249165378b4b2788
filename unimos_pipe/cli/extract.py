"""``unimos-pipe extract``: stage one."""

from collections.abc import Sequence
from pathlib import Path

import click

from unimos_pipe.cli.options import DataOptions, data_options, data_root_options, device_option
from unimos_pipe.console import Output
from unimos_pipe.errors import UserError
from unimos_pipe.files import writable_folder
from unimos_pipe.manifest import DatasetSpec, Manifest
from unimos_pipe.scan import count_warning, find_root, scan


@click.command()
@click.option("--domain", "domains", multiple=True, metavar="NAME", help="Domain to encode; repeatable.")
@click.option("--all", "every", is_flag=True, help="Encode every domain of the data set.")
@data_options
@data_root_options
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Images per encoder call.")
@click.option("--workers", type=click.IntRange(0), default=2, show_default=True, help="Processes that decode images.")
@device_option
@click.option("--shard-size", type=click.IntRange(1), default=4096, show_default=True, help="Most rows in a shard.")
@click.option(
    "--on-error",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="Unreadable images: fail after the good shards are written, or leave them out and list them.",
)
@click.option("--force", is_flag=True, help="Encode again even what is there.")
@click.pass_obj
def extract(
    output: Output,
    domains: tuple[str, ...],
    every: bool,
    data: DataOptions,
    data_root: Path | None,
    strict_counts: bool,
    batch_size: int,
    workers: int,
    device: str,
    shard_size: int,
    on_error: str,
    force: bool,
) -> None:
    """Stage one: encode a domain's images and prompts into the cache.

    \b
    Examples:
      unimos-pipe extract --domain art --data-root ~/OfficeHome
      unimos-pipe extract --dataset icons --all

    Finished shards are verified and kept, so an interrupted command goes on where it was.
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
    )


def encode(
    output: Output,
    data: DataOptions,
    names: Sequence[str],
    root: Path | None,
    device: str,
    *,
    strict_counts: bool = False,
    force: bool = False,
    **reading,
) -> Path:
    """Stage one for some domains, everything checked before the encoder is loaded; returns the encoder's folder.

    ``reading`` are the keyword options of :func:`unimos_pipe.extract.extract_images`.
    """
    spec = data.dataset
    writable_folder(data.cache, "--cache")
    root = find_root(spec, root, data.cache)
    manifests = [scan(spec, part, root) for name in names for part in spec.parts(name)]
    _check_counts(output, spec, manifests, strict_counts)

    from unimos_pipe.device import pick_device
    from unimos_pipe.encoder import ClipEncoder
    from unimos_pipe.extract import extract_images, extract_text
    from unimos_pipe.identity import encoder_id

    encoder = ClipEncoder(data.encoder, pick_device(device))
    folder = data.cache / spec.name / encoder_id(data.encoder, encoder.identity)
    output.detail(
        f"encoder {encoder.identity.model}, weights sha256 {encoder.identity.weights_sha256}, "
        f"on {encoder.device}; cache {folder}"
    )
    for name in names:
        word = spec.domain(name).word
        extract_text(spec.name, word, spec.classes, data.templates, encoder, folder, spec.wording(), force=force)
    for manifest in manifests:
        with output.progress(f"{spec.name}/{manifest.domain}", len(manifest), "images") as advance:
            report = extract_images(manifest, encoder, folder, force=force, on_rows=advance, **reading)
        for path, reason in report.skipped:
            output.warn(f"left out {manifest.domain}/{path}: {reason}")
        rate = f", {report.encoded / report.seconds:,.0f} images/s" if report.encoded else ""
        output.note(
            f"{spec.name}/{report.domain}: {report.rows - len(report.skipped)} rows in "
            f"{report.shards_kept + report.shards_written} shard(s), {report.shards_written} new, "
            f"{report.seconds:.1f} s{rate}"
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
