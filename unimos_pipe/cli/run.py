"""``unimos-pipe run``: a recipe from images to its report, both stages."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unimos_pipe.base.console import Output
from unimos_pipe.base.errors import UserError
from unimos_pipe.cache.layout import default_cache, encoder_folders, find_encoder_folder
from unimos_pipe.cli.extract import encode
from unimos_pipe.cli.options import (
    DataOptions,
    also_option,
    cache_option,
    data_root_options,
    device_option,
    encoder_spec,
    lockstep_option,
    protocol_option,
    runs_option,
    trust_option,
)
from unimos_pipe.cli.report import missing_packages, write_report
from unimos_pipe.cli.sweep import sweep_features
from unimos_pipe.data.scan import find_root, layout, scan

if TYPE_CHECKING:
    from unimos_pipe.runs.recipe import Recipe


@click.command()
@click.argument("recipe", metavar="RECIPE")
@data_root_options
@cache_option
@click.option("--pretrained", metavar="TAG|FILE", help="Weights of the encoder, instead of the preset's.")
@trust_option
@click.option("--seeds", type=click.IntRange(1), help="Seeds per pair, instead of the recipe's.")
@protocol_option
@click.option("--workers", type=click.IntRange(0), default=2, show_default=True, help="Processes that decode images.")
@device_option
@runs_option
@lockstep_option
@also_option
@click.option("--dry-run", is_flag=True, help="Say what would be done and how long it would take, then stop.")
@click.pass_obj
def run(
    output: Output,
    recipe: str,
    data_root: Path | None,
    strict_counts: bool,
    cache: Path | None,
    pretrained: str | None,
    trust_weights: bool,
    seeds: int | None,
    protocol: str | None,
    workers: int,
    device: str,
    runs_folder: Path,
    lockstep: int | None,
    also: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Run a recipe from images to its report: encode what is missing, sweep, and make the page.

    \b
    RECIPE is a name or a .toml file. Examples:
      unimos-pipe run office_home_rn50 --dry-run
      unimos-pipe run office_home_rn50 --data-root ~/OfficeHome

    What is finished is kept, so an interrupted command goes on where it was. Features that are complete need neither
    images nor weights.
    """
    from unimos_pipe.runs.recipe import load_recipe

    chosen, spec = load_recipe(recipe)
    chosen = replace(chosen, seeds=seeds or chosen.seeds, protocol=spec.protocol(protocol or chosen.protocol or None))
    preset = chosen.encoder or spec.encoder
    encoder = encoder_spec(preset, None, pretrained, "fp32", trust_weights)
    words = ["--dataset", chosen.dataset, "--encoder", preset, *(["--pretrained", pretrained] if pretrained else [])]
    words += ["--trust-weights"] * trust_weights
    data = DataOptions(
        spec,
        encoder,
        None,
        chosen.templates,
        cache or default_cache(),
        shlex.join(["unimos-pipe", "extract", *words]),
    )
    missing = _missing_domains(data, chosen.domains(spec))
    if dry_run and missing:
        _print_plan(output, recipe, chosen, data, missing, data_root, device, lockstep)
        return
    if missing:
        features = encode(output, data, missing, data_root, device, strict_counts=strict_counts, workers=workers)
    else:
        features = find_encoder_folder(data.cache, spec.name, encoder, None, data.extract_command)
    sweep_features(output, chosen, spec, features, data.extract_command, device, runs_folder, lockstep, also, dry_run)
    folder = runs_folder / chosen.name
    if dry_run:
        return
    if missing_packages():
        output.note("for a report of it: pip install 'unimos-pipe[report]', then unimos-pipe report " + str(folder))
    else:
        write_report(output, [folder], folder / "report", pair=None, data_root=data_root, cache=data.cache)


def _missing_domains(data: DataOptions, domains: list[str]) -> list[str]:
    """The domains whose images or prompts are not in the cache, or not whole."""
    from unimos_pipe.cache.store import FeatureStore

    if not encoder_folders(data.cache, data.dataset.name, data.encoder):
        return domains
    store = FeatureStore(data.dataset, data.encoder_folder(), data.extract_command)
    missing = []
    for name in domains:
        try:
            store.text(name, data.templates, store.domain(*data.dataset.parts(name)).encoder)
        except UserError:  # stage one says what is wrong with a shard, where it cannot mend it
            missing.append(name)
    return missing


def _print_plan(
    output: Output,
    name: str,
    recipe: "Recipe",
    data: DataOptions,
    missing: list[str],
    data_root: Path | None,
    device: str,
    lockstep: int | None,
) -> None:
    """Both stages before the features exist: what there is to do, how long it may take, and the next step."""
    from unimos_pipe.adapt.forecast import Rows, expected_rows, training_seconds
    from unimos_pipe.adapt.stacks import MOST_IN_STACK
    from unimos_pipe.base.device import pick_device
    from unimos_pipe.extract.encoder import encoder_speed

    spec = data.dataset
    rows = {domain: expected_rows(spec, domain, recipe.protocol) for domain in recipe.domains(spec)}
    problem = None
    try:
        root = find_root(spec, data_root, data.cache)
        parts = {domain: [len(scan(spec, part, root)) for part in spec.parts(domain)] for domain in rows}
        inductive = recipe.protocol == "inductive"
        rows = {domain: Rows(*counts) if inductive else Rows(sum(counts)) for domain, counts in parts.items()}
    except UserError as error:
        problem = error
    place = pick_device(device)
    runs = recipe.runs(spec, "")
    encoding = f"of {', '.join(missing)} to encode with {data.encoder.model}"
    training = f"{len(runs)} runs ({len(recipe.domain_pairs(spec))} pairs x {recipe.seeds} seeds"
    training += f" x {len(recipe.variants) * len(recipe.cells())} settings)"
    output.result(f"{recipe.title or recipe.name} ({recipe.protocol})")
    if all(rows.values()):
        images = sum(rows[domain].learned + rows[domain].scored for domain in missing)
        per_image, dim = encoder_speed(data.encoder, place)
        seconds = training_seconds(runs, rows, len(spec.classes), dim, place, lockstep or MOST_IN_STACK)
        output.result(
            f"  stage one: {images:,} images ({'as published, the images are not here' if problem else 'found'}) "
            f"{encoding}; {images * (2 * dim + 80) / 1e6:,.0f} MB of cache; about {_duration(images * per_image)} on "
            f"{place.type}, decoding aside"
        )
        output.result(f"  stage two: {training}; about {_duration(seconds)} on {place.type}")
    else:
        output.result(f"  stage one: images {encoding}; how many and how long, its list files will tell")
        output.result(f"  stage two: {training}")
    if problem is None:
        given = ["--data-root", str(data_root)] if data_root else []
        output.result(f"  next: {shlex.join(['unimos-pipe', 'run', name, *given])}")
    elif data_root is None:
        output.result(f"  next: get the images from {spec.source or 'their owner'} ({spec.terms or 'see there'}),")
        output.result(
            f"        unpack them as {layout(spec)}, then: {shlex.join(['unimos-pipe', 'run', name])} --data-root ROOT"
        )
    else:
        output.result(f"  next: {problem}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
