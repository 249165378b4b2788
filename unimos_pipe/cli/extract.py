"""``unimos-pipe extract``: stage one."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import click

import unimos_pipe
from unimos_pipe.base.errors import InputError, UnimosPipeError
from unimos_pipe.base.ray_cluster import ComputeConfig
from unimos_pipe.base.terminal import Output
from unimos_pipe.cache.feature_set import FeatureSet
from unimos_pipe.cli.click_classes import Command, SuggestingChoice
from unimos_pipe.cli.feature_options import features_options
from unimos_pipe.cli.next_command import suggest_after_features
from unimos_pipe.cli.options import (
    batch_size_option,
    compute_options,
    data_root_option,
    domains_option,
    max_pixels_option,
    option_group,
    strict_counts_option,
    workers_option,
)


def _reading(
    strict_counts: bool,
    batch_size: int | str,
    workers: int | None,
    max_pixels: int,
    shard_size: int,
    on_error: str | None,
    force: bool,
) -> "unimos_pipe.ExtractOptions":
    return unimos_pipe.ExtractOptions(
        batch_size=batch_size,
        workers=workers,
        max_pixels=max_pixels,
        shard_size=shard_size,
        skip_bad=None if on_error is None else on_error == "skip",
        strict_counts=strict_counts,
        force=force,
    )


reading_options = option_group(
    "reading",
    _reading,
    strict_counts_option,
    batch_size_option,
    workers_option,
    max_pixels_option,
    click.option(
        "--shard-size", type=click.IntRange(1), default=4096, show_default=True, help="Maximum rows per shard."
    ),
    click.option(
        "--on-error",
        type=SuggestingChoice(["fail", "skip"]),
        help="Unreadable images: skip and list them (default for your own data), or fail after all others are encoded "
        "(default for known data sets).",
    ),
    click.option("--force", is_flag=True, help="Re-encode cached images."),
)


@click.command(cls=Command)
@domains_option("Domain to encode; repeatable.")
@click.option("--all", "every", is_flag=True, help="Encode every domain of the data set.")
@features_options
@data_root_option
@reading_options
@compute_options
@click.pass_obj
def extract(
    output: Output,
    domains: tuple[str, ...],
    every: bool,
    features: FeatureSet,
    data_root: Path | None,
    reading: "unimos_pipe.ExtractOptions",
    compute: ComputeConfig,
) -> None:
    """Stage one: encode a domain's images and prompts into the cache.

    \b
    Examples:
      unimos-pipe extract --domain art --data-root ~/OfficeHome
      unimos-pipe extract --dataset icons --all

    Only new images are encoded: images with cached contents keep their features, even if they were moved or their
    class was renamed. An interrupted command resumes.
    """
    if bool(domains) == every:
        raise InputError(f"say which domains: --domain NAME (known: {', '.join(features.dataset.domains)}) or --all")
    result = unimos_pipe.extract_features(
        features, domains, data_root, options=reading, compute=compute, reporter=output
    )
    without_prompts: Sequence[str] = ()
    with contextlib.suppress(UnimosPipeError):  # a damaged shard is told when it is used
        without_prompts = result.features.store().domains_without_prompts(features.templates)
    suggest_after_features(output, result.folder, features.dataset, without_prompts)
