"""``unimos-pipe cache``: list, verify, prune, import, export and combine cached features."""

import sys
from pathlib import Path

import click

import unimos_pipe
from unimos_pipe.base.errors import InputError, join_names
from unimos_pipe.base.terminal import Output
from unimos_pipe.cache.cache_paths import default_cache
from unimos_pipe.cli import completion
from unimos_pipe.cli.cache_import_export import combine_command, export_command, import_command
from unimos_pipe.cli.click_classes import Group
from unimos_pipe.cli.json_output import json_options, print_json
from unimos_pipe.cli.next_command import suggest_next
from unimos_pipe.cli.options import cache_option, device_option, encoder_spec, folder_option, trust_option


@click.group(cls=Group)
def cache() -> None:
    """List, verify, prune, exchange and combine cached features."""


@cache.command("path")
@click.pass_obj
def path(output: Output) -> None:
    """Print the folder that holds the features."""
    output.result(str(unimos_pipe.default_cache()))


@cache.command("ls")
@cache_option
@json_options
@click.pass_obj
def ls(output: Output, cache: Path | None) -> None:
    """List data sets, encoders, rows, sizes and missing shards."""
    folder = cache or default_cache()
    entries = unimos_pipe.list_cache(folder)
    print_json(output, {"cache": folder, "entries": entries})
    if not entries:
        output.result(f"{folder} holds no features")
        return
    for name in dict.fromkeys(f"{entry.dataset}, {entry.encoder_id}" for entry in entries):
        group = [entry for entry in entries if f"{entry.dataset}, {entry.encoder_id}" == name]
        rows = [
            [entry.domain, f"{entry.rows:,}", str(entry.shards), _size(entry.bytes), entry.state] for entry in group
        ]
        output.table(name, ["features", "rows", "shards", "size", "state"], rows)
    total = _size(sum(entry.bytes for entry in entries))
    output.result(f"{folder}: {sum(entry.rows for entry in entries):,} rows, {total}")
    suggest_next(output, "cache", "verify")


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


@cache.command("verify")
@cache_option
@click.option(
    "--dataset",
    metavar="NAME|FILE.toml",
    shell_complete=completion.datasets,
    help="Only this data set; --deep needs it.",
)
@click.option(
    "--deep", is_flag=True, help="Also compare the images with the cached features, and encode a sample again."
)
@click.option("--data-root", type=click.Path(path_type=Path), metavar="DIR", help="Images for --deep; as in extract.")
@click.option("--pretrained", metavar="TAG|FILE", help="Weights for --deep, if not the preset's.")
@trust_option
@click.option("--model", metavar="NAME", help="open_clip model for --deep, if not the preset's.")
@click.option("--encoder", metavar="NAME", help="Encoder preset for --deep. Default: the data set's.")
@click.option("--images", type=click.IntRange(1), default=64, show_default=True, help="Sample of --deep per domain.")
@device_option
@json_options
@click.pass_obj
def verify(
    output: Output,
    cache: Path | None,
    dataset: str | None,
    deep: bool,
    data_root: Path | None,
    pretrained: str | None,
    allow_torchscript: bool,
    model: str | None,
    encoder: str | None,
    images: int,
    device: str,
) -> None:
    """Check every shard: digest, shapes, norms, rows and location.

    Exit code 1 if there are problems; `extract` replaces damaged shards.
    """
    from unimos_pipe.data.dataset_spec import load_spec

    if deep and not dataset:
        raise InputError("--deep needs --dataset, and --data-root where the images are not embedded")
    spec = load_spec(dataset) if dataset else None
    folder = cache or default_cache()
    verified = unimos_pipe.verify_cache(folder, spec and spec.cache_name, reporter=output)
    entries, problems = verified.entries, list(verified.problems)
    if deep:
        encoder_to_check = encoder_spec(encoder or spec.encoder, model, pretrained, "fp32", allow_torchscript)
        check = unimos_pipe.verify_encoding(
            spec, data_root, encoder=encoder_to_check, cache=folder, images=images, device=device, reporter=output
        )
        problems += check.problems
        output.note(f"{check.images} image(s) encoded again and compared")
    print_json(output, {"cache": folder, "entries": entries, "problems": problems})
    for problem in problems:
        output.result(problem)
    good = "all sound" if not problems else f"{len(problems)} fault(s)"
    if not deep:
        output.note("images were not checked; --deep compares them with their features")
    output.result(f"{len(entries)} folder(s), {sum(entry.rows for entry in entries):,} rows in {folder}: {good}")
    if problems:
        sys.exit(1)
    suggest_next(output, "cache", "prune")


@cache.command("prune")
@cache_option
@folder_option("--runs", "runs_folder", default=Path("runs"), help="Runs whose features stay.")
@click.option("--recipe", "recipes", multiple=True, metavar="FILE", help="Recipe of yours whose features stay.")
@click.option(
    "--imported",
    multiple=True,
    metavar="ENCODER-ID",
    help="Encoder ID of imported features whose damaged shards may be deleted. They cannot be made again.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def prune(
    output: Output,
    cache: Path | None,
    runs_folder: Path,
    recipes: tuple[str, ...],
    imported: tuple[str, ...],
    yes: bool,
) -> None:
    """Remove damaged shards, leftovers and unused features.

    These are damaged shards, leftovers of killed writers, and features that no recipe or run needs.

    Needed is what runs in --runs were trained on, and what the recipes that come with the package, or yours named by
    --recipe, would train on; it says where it looked. Asks before anything is removed, and passes over what another
    process is writing.
    """
    folder = cache or default_cache()
    items = unimos_pipe.find_prunable(folder, runs_folder, recipes, imported, reporter=output)
    if not items:
        output.result(f"nothing to remove in {folder}")
        suggest_next(output, "cache", "ls")
        return
    for item in items:
        output.result(f"{_size(item.bytes):>12}  {item.path.relative_to(folder)}  ({item.reason})")
    total = _size(sum(item.bytes for item in items))
    if not yes and not click.confirm(f"Remove these {len(items)}, {total}?", err=True):
        output.result("nothing removed")
        return
    busy = unimos_pipe.prune_cache(items, folder)
    if busy:
        output.warn(f"in use by another process and left alone: {join_names(busy)}")
    output.result(f"{len(items) - len(busy)} removed")
    suggest_next(output, "cache", "ls")


cache.add_command(import_command)
cache.add_command(combine_command)
cache.add_command(export_command)
