"""``unimos-pipe cache import``, ``cache export`` and ``cache combine``: features of other programs and encoders."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import click

import unimos_pipe
from unimos_pipe.base.errors import InputError
from unimos_pipe.base.method_config import DEFAULT_TEMPLATE
from unimos_pipe.base.terminal import Output
from unimos_pipe.cache.feature_set import FeatureSet
from unimos_pipe.cli import completion
from unimos_pipe.cli.click_classes import Command
from unimos_pipe.cli.feature_options import features_options
from unimos_pipe.cli.next_command import suggest_after_features, suggest_next
from unimos_pipe.cli.options import (
    cache_option,
    device_option,
    domains_option,
    encoder_spec,
    option_group,
    strict_counts_option,
    trust_option,
)

FILE = click.Path(path_type=Path)


def _importing(
    labels: Path | None,
    paths: tuple[Path, ...],
    key: str | None,
    label_key: str | None,
    images_in: Literal["rows", "columns"] | None,
    classes: Path | None,
    text: Path | None,
    text_from: str | None,
    pretrained: str | None,
    allow_torchscript: bool,
    templates: tuple[str, ...],
    strict_counts: bool,
    force: bool,
) -> "unimos_pipe.ImportOptions":
    encoder = encoder_spec(text_from, None, pretrained, "fp32", allow_torchscript) if text_from else None
    templates = templates or (DEFAULT_TEMPLATE,)
    return unimos_pipe.ImportOptions(
        labels=labels,
        paths=paths,
        key=key,
        label_key=label_key,
        images_in=images_in,
        classes=classes,
        text=text,
        text_from=encoder,
        templates=templates,
        strict_counts=strict_counts,
        force=force,
    )


import_options = option_group(
    "options",
    _importing,
    click.option(
        "--labels",
        type=FILE,
        metavar="L.csv|L.npy",
        help="Classes by name: path,class, or class alone in row order; or an array of class numbers.",
    ),
    click.option(
        "--paths",
        type=FILE,
        multiple=True,
        metavar="P.csv|P.txt",
        help="Paths of the rows in order, optionally with classes; also .parquet; repeatable.",
    ),
    click.option("--key", metavar="K", help="Name of the feature array, if a file has several."),
    click.option("--label-key", metavar="K", help="Name of the label array, if a file has several; '' for none."),
    click.option(
        "--images-in", type=click.Choice(["rows", "columns"]), help="Axis of the images, if both readings are possible."
    ),
    click.option(
        "--classes",
        type=FILE,
        metavar="FILE",
        help="Class names, one a line in label order: makes the spec FILE.toml, or adds the domain to it.",
    ),
    click.option("--text", type=FILE, metavar="T.npy", help="(K, D) text features of the classes for this domain."),
    click.option("--text-from", metavar="ENCODER", help="Or the preset whose text encoder computes them."),
    click.option("--pretrained", metavar="TAG|FILE", help="Weights for --text-from, if not the preset's."),
    trust_option,
    click.option(
        "--template",
        "templates",
        multiple=True,
        metavar="TEXT",
        help=f"Prompt template of the text features, repeatable. Default: {DEFAULT_TEMPLATE!r}",
    ),
    strict_counts_option,
    click.option("--force", is_flag=True, help="Replace other rows of this domain and encoder."),
)


def _dataset_option(help_text: str) -> Callable:
    return click.option(
        "--dataset",
        required=True,
        metavar="NAME|FILE.toml",
        shell_complete=completion.datasets,
        help=help_text,
    )


@click.command("import", cls=Command)
@click.argument("files", metavar="FEATURES...", nargs=-1, required=True, type=FILE)
@_dataset_option("Data set the rows belong to.")
@click.option("--domain", required=True, metavar="D", help="Domain, or split such as clipart.train.")
@click.option("--encoder-name", required=True, metavar="TEXT", help="Name of the encoder that produced the features.")
@import_options
@cache_option
@device_option
@click.pass_obj
def import_command(
    output: Output,
    files: tuple[Path, ...],
    dataset: str,
    domain: str,
    encoder_name: str,
    options: "unimos_pipe.ImportOptions",
    cache: Path | None,
    device: str,
) -> None:
    """Import image features of another program.

    \b
    FEATURES: .npy .npz .safetensors .pt .pth .parquet .h5 .hdf5 of (n, D) floats; several form one domain, in order.
    Examples:
      unimos-pipe cache import art.pt --dataset office_home --domain art --encoder-name RN50 --paths art.txt
      unimos-pipe cache import bank.h5 --dataset my.toml --domain shop --encoder-name DINOv2 --classes names.txt

    Features are normalised to unit length. Invalid files are refused before anything is written.
    """
    imported = unimos_pipe.import_features(
        files, dataset, domain, encoder_name, options, cache=cache, device=device, reporter=output
    )
    output.result(
        f"{imported.dataset.name}/{domain}: {imported.rows} rows, D = {imported.dim}, {imported.labelled} with labels, "
        f"by {encoder_name}{', unchanged' if imported.kept else ''}"
    )
    output.note(f"  in {imported.folder}")
    suggest_after_features(output, imported.folder, imported.dataset)


@click.command("combine", cls=Command)
@click.argument("first", metavar="ENCODER")
@click.argument("second", metavar="ENCODER")
@_dataset_option("Data set that both encoders have features of.")
@click.option("--as", "encoder_name", required=True, metavar="TEXT", help="Name of the new encoder.")
@cache_option
@click.option("--force", is_flag=True, help="Replace other rows of an encoder of this name.")
@click.pass_obj
def combine_command(
    output: Output, first: str, second: str, dataset: str, encoder_name: str, cache: Path | None, force: bool
) -> None:
    """Make one encoder of two: images of both, text of the first.

    \b
    ENCODER: an encoder ID of `cache ls`, or its beginning.
    Example:
      unimos-pipe cache combine ViT-B-16 DINOv2 --dataset pacs --as "CLIP and DINOv2"

    Zero-shot answers as the first encoder alone does; probes see both. Run it again after features have changed.
    """
    combined = unimos_pipe.combine_features(dataset, first, second, encoder_name, cache=cache, force=force)
    rows = ", ".join(f"{part} {count} rows" for part, count in combined.rows.items())
    output.result(f"{combined.dataset.name} by {encoder_name}: {rows}, D = {combined.dim}")
    output.note(f"  in {combined.folder}")
    suggest_after_features(output, combined.folder, combined.dataset)


@click.command("export", cls=Command)
@domains_option("Domain to export; repeatable.")
@click.option("--all", "every", is_flag=True, help="Export every domain of the data set.")
@features_options
@click.option("--encoder-id", metavar="ID", help="Cache folder of the features, if several match.")
@click.option("-o", "--out", required=True, type=FILE, metavar="DIR", help="Folder to make.")
@click.pass_obj
def export_command(output: Output, domains: tuple[str, ...], every: bool, features: FeatureSet, out: Path) -> None:
    """Write cached features as .npy, .csv and .safetensors.

    The CSV has paths and classes.

    \b
    Example:
      unimos-pipe cache export --dataset icons --all -o icons-features
    """
    if bool(domains) == every:
        raise InputError(f"say which domains: --domain NAME (known: {', '.join(features.dataset.domains)}) or --all")
    exported = unimos_pipe.export_features(features, out, domains)
    for part in exported.without_text:
        output.warn(f"{part}: no text features written: its prompts are not in the cache")
    output.result(f"{out}: " + ", ".join(f"{part} {rows} rows" for part, rows in exported.rows.items()))
    part = next(iter(exported.rows))
    files = out / f"{part}.npy", "--labels", out / f"{part}.csv", "--classes", out / "classes.txt"
    suggest_next(
        output, "cache", "import", *files, "--dataset", "FILE.toml", "--domain", part, "--encoder-name", "NAME"
    )
