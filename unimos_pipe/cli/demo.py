"""``unimos-pipe demo``: both stages on the embedded data, one table."""

import time
from pathlib import Path

import click

from unimos_pipe.base.config import DEFAULT_TEMPLATE
from unimos_pipe.base.console import Output
from unimos_pipe.base.encoders import ENCODERS
from unimos_pipe.base.files import writable_folder
from unimos_pipe.cache.layout import default_cache
from unimos_pipe.cli.extract import encode
from unimos_pipe.cli.options import DataOptions, cache_option, device_option, runs_option
from unimos_pipe.data.manifest import load_spec


@click.command()
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Runs per pair, seeds 0, 1, ...")
@cache_option
@device_option
@runs_option
@click.pass_obj
def demo(output: Output, seeds: int, cache: Path | None, device: str, runs_folder: Path) -> None:
    """Encode 2,514 small icons in four styles and adapt all 12 pairs, without a network.

    Finished runs are kept in the runs folder and shown again next time. The encoder is a small CLIP trained for
    such icons, so the figures show that the pipeline works, not what a large CLIP can do.
    """
    spec = load_spec("icons")
    data = DataOptions(
        spec,
        ENCODERS[spec.encoder],
        None,
        (DEFAULT_TEMPLATE,),
        cache or default_cache(),
        "unimos-pipe extract --dataset icons",
    )
    writable_folder(runs_folder, "--runs")
    started = time.perf_counter()
    folder = encode(output, data, tuple(spec.domains), None, device)
    extract_seconds = time.perf_counter() - started

    from unimos_pipe.adapt.stacks import adapt
    from unimos_pipe.adapt.summary import ORACLE, result_rows
    from unimos_pipe.adapt.sweep import plan_loader, plan_runs
    from unimos_pipe.base.device import pick_device
    from unimos_pipe.cache.store import FeatureStore
    from unimos_pipe.runs.recipe import Recipe

    recipe = Recipe("demo", spec.name, seeds=seeds)
    plans = plan_runs(recipe, spec, folder.name, runs_folder)
    loader = plan_loader(plans, FeatureStore(spec, folder, data.extract_command), pick_device(device))
    started = time.perf_counter()
    with output.progress("12 pairs", sum(plan.spec.method.train.epochs for plan in plans), "epochs") as advance:
        outcomes = adapt(plans, loader, keep_finished=True, on_epochs=advance)
    pairs = [f"{source}->{target}" for source, target in recipe.domain_pairs(spec)]
    columns = result_rows(plans, outcomes, {}, also=[ORACLE])
    output.table(
        f"icons, tiny CLIP: accuracy on the target in %, {seeds} seed(s)",
        ["pair", "zero-shot", "UniMoS (last epoch)", "oracle best"],
        [[pair.replace("->", " -> "), *(column.cell(pair) for column in columns)] for pair in pairs],
        ["mean of 12 pairs", *(column.average(pairs) for column in columns)],
    )
    kept = sum(outcome.kept for outcome in outcomes)
    output.result(
        f"Stage one: {extract_seconds:.1f} s. Stage two: {time.perf_counter() - started:.1f} s for "
        f"{len(plans) - kept} run(s), {kept} kept from before in {runs_folder}."
    )
