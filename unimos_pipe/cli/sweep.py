"""``unimos-pipe sweep``: a whole recipe, and the table it was made for."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unimos_pipe.base.console import Output
from unimos_pipe.base.encoders import ENCODERS
from unimos_pipe.base.files import only_one, writable_folder, write_text
from unimos_pipe.cache.layout import default_cache, find_encoder_folder
from unimos_pipe.cli.options import (
    also_option,
    cache_option,
    device_option,
    engine_options,
    lockstep_option,
    protocol_option,
    runs_option,
)
from unimos_pipe.data.manifest import DatasetSpec

if TYPE_CHECKING:
    from unimos_pipe.runs.recipe import Recipe


@click.command()
@click.argument("recipe", metavar="RECIPE")
@cache_option
@click.option("--pretrained", metavar="TAG|FILE", help="Weights the features were made with, if not the preset's.")
@click.option("--encoder-id", metavar="ID", help="Cache folder of the features, where several fit.")
@click.option("--seeds", type=click.IntRange(1), help="Seeds per pair, instead of the recipe's.")
@protocol_option
@device_option
@runs_option
@lockstep_option
@engine_options
@also_option
@click.option("--dry-run", is_flag=True, help="Say what would be done and how long it would take, then stop.")
@click.pass_obj
def sweep(
    output: Output,
    recipe: str,
    cache: Path | None,
    pretrained: str | None,
    encoder_id: str | None,
    seeds: int | None,
    protocol: str | None,
    device: str,
    runs_folder: Path,
    lockstep: int | None,
    engine: str,
    address: str | None,
    cpus_per_job: float,
    also: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Run every pair, seed and variant of a recipe from cached features.

    \b
    RECIPE is a name or a .toml file. Examples:
      unimos-pipe sweep icons_ablation --dry-run
      unimos-pipe sweep pipelines/icons_ablation.toml

    Finished runs are skipped if they were made from the same options and features; an interrupted sweep goes on
    from its last checkpoint.
    """
    from unimos_pipe.runs.recipe import load_recipe

    chosen, spec = load_recipe(recipe)
    chosen = replace(chosen, seeds=seeds or chosen.seeds, protocol=spec.protocol(protocol or chosen.protocol or None))
    preset = chosen.encoder or spec.encoder
    encoder = replace(ENCODERS[preset], pretrained=pretrained or ENCODERS[preset].pretrained)
    extract = shlex.join(
        ["unimos-pipe", "extract", "--dataset", chosen.dataset, "--encoder", preset]
        + (["--pretrained", pretrained] if pretrained else [])
    )
    features = find_encoder_folder(cache or default_cache(), spec.name, encoder, encoder_id, f"{extract} --all")
    ray = (address, cpus_per_job) if engine == "ray" else None
    sweep_features(output, chosen, spec, features, extract, device, runs_folder, lockstep, also, dry_run, ray)


def sweep_features(
    output: Output,
    recipe: "Recipe",
    spec: DatasetSpec,
    features: Path,
    extract: str,
    device: str,
    runs_folder: Path,
    lockstep: int | None,
    also: Sequence[str],
    dry_run: bool,
    ray: tuple[str | None, float] | None = None,
) -> None:
    """Run a recipe, or say what there is to run, from the features of one encoder's folder; exits with 1 on failures.

    ``extract`` is the command that makes missing features, for messages; ``ray`` (address or None, cores per job)
    trains on a Ray cluster.
    """
    from unimos_pipe.adapt.summary import published_rows
    from unimos_pipe.adapt.sweep import estimate, pair_data, plan_loader, plan_runs
    from unimos_pipe.base.device import pick_device
    from unimos_pipe.cache.store import FeatureStore

    folder = runs_folder / recipe.name
    plans = plan_runs(recipe, spec, features.name, folder)
    loader = plan_loader(plans, FeatureStore(spec, features, extract), pick_device(device))
    if dry_run:
        plan = estimate(plans, loader, lockstep)
        output.result(
            f"{recipe.name}: {plan.runs} runs, {plan.finished} finished, {plan.stacks} stacks and {plan.steps:,} steps "
            f"to train, about {plan.seconds / 60:.1f} minutes here"
        )
        return
    pair_data(plans, loader)  # every fault of the cache shows before a folder is touched
    printed = published_rows(recipe.paper, spec) if recipe.paper else []
    writable_folder(folder, "--runs")
    with only_one(folder):
        write_text(folder / "recipe.json", json.dumps(asdict(recipe), indent=1, ensure_ascii=False) + "\n")
        failed = run_sweep(output, recipe.title or recipe.name, plans, loader, folder, lockstep, also, printed, ray)
    if failed:
        sys.exit(1)


def run_sweep(
    output: Output,
    title: str,
    plans: Sequence,
    loader,
    folder: Path,
    lockstep: int | None,
    also: Sequence[str],
    printed: Sequence = (),
    ray: tuple[str | None, float] | None = None,
) -> bool:
    """Train what is missing of a plan, print its table above ``printed`` rows, and return whether any run failed."""
    from unimos_pipe.adapt import baselines
    from unimos_pipe.adapt.stacks import adapt
    from unimos_pipe.adapt.summary import result_rows
    from unimos_pipe.adapt.sweep import pair_data

    if ray:
        from unimos_pipe.adapt.on_ray import adapt_on_ray
        from unimos_pipe.base.engine import RayOptions

        options = RayOptions(*ray, 1.0 if loader.device.type == "cuda" else 0.0)
        adapt = partial(adapt_on_ray, options=options)
    data = pair_data(plans, loader)
    total = sum(plan.spec.method.train.epochs for plan in plans)
    with output.progress(f"{len(plans)} runs", total, "epochs") as advance:
        outcomes = adapt(
            plans, loader, lockstep=lockstep, keep_finished=True, checkpoints=folder / ".checkpoints", on_epochs=advance
        )
    figures = {}
    if baselines.available():
        figures = baselines.pair_baselines(data, folder / "baselines.json")
    else:
        output.note("source-only and probe rows need scikit-learn: pip install 'unimos-pipe[baselines]'")
    rows = result_rows(plans, outcomes, figures, also)
    if rows:
        kinds = {(o.result["metric"], o.result["protocol"]) for o in outcomes if o.result}
        ((metric, protocol),) = kinds  # one data set and one recipe
        figure = "target accuracy" if metric == "accuracy" else "mean of per-class target accuracies"
        print_rows(
            output,
            f"{title}: {figure} in %, last epoch unless named otherwise, {protocol}",
            [*rows, *printed],
            list(data),
        )
    failures = [(plan, outcome.error) for plan, outcome in zip(plans, outcomes, strict=True) if outcome.error]
    for plan, error in failures:
        output.warn(f"{plan.folder}: {error}")
    kept = sum(outcome.kept for outcome in outcomes)
    output.note(f"{len(plans) - kept - len(failures)} run(s) trained, {kept} kept, {len(failures)} failed, in {folder}")
    return bool(failures)


def print_rows(output: Output, title: str, rows: Sequence, pairs: Sequence[str]) -> None:
    """Pairs in columns, as many at a time as the terminal is wide, the average last."""
    label_width = max(len(row.label) for row in rows)
    cells = max(len(row.cell(pair)) for row in rows for pair in pairs)
    column = max(cells, *(len(pair) for pair in pairs)) + 3
    per_block = max(1, (output.out.width - label_width - 4) // column)
    columns = [*pairs, "average"]
    for start in range(0, len(columns), per_block):
        block = columns[start : start + per_block]
        body = [
            [row.label, *(row.average(pairs) if name == "average" else row.cell(name) for name in block)]
            for row in rows
        ]
        output.table(title if start == 0 else "", ["", *block], body)
