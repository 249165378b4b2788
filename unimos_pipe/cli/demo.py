"""``unimos-pipe demo``: both stages on the embedded data, one table."""

import itertools
import statistics
import time
from pathlib import Path

import click

from unimos_pipe.cli.extract import encode
from unimos_pipe.cli.options import DataOptions, device_option, runs_option
from unimos_pipe.config import DEFAULT_TEMPLATE, ENCODERS, MethodSpec
from unimos_pipe.console import Output, percent
from unimos_pipe.files import writable_folder
from unimos_pipe.layout import default_cache
from unimos_pipe.manifest import load_spec


@click.command()
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Runs per pair, seeds 0, 1, ...")
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where features are kept. Default: $UNIMOS_CACHE, else the user's cache folder.",
)
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

    from unimos_pipe.adapt import DTYPES, PlannedRun, adapt_missing
    from unimos_pipe.device import pick_device
    from unimos_pipe.run import RunSpec
    from unimos_pipe.store import FeatureStore
    from unimos_pipe.task import PairLoader

    method = MethodSpec()
    pairs = list(itertools.permutations(spec.domains, 2))
    specs = [
        RunSpec(spec.name, folder.name, source, target, "full", seed, data.templates, method)
        for source, target in pairs
        for seed in range(seeds)
    ]
    plans = [PlannedRun(run, run.folder(runs_folder)) for run in specs]
    loader = PairLoader(
        FeatureStore(spec, folder, data.extract_command),
        data.templates,
        DTYPES[method.train.precision],
        pick_device(device),
    )
    started = time.perf_counter()
    with output.progress("12 pairs", len(plans) * method.train.epochs, "epochs") as advance:
        results, trained = adapt_missing(plans, loader, on_epoch=advance)
    _print_table(output, pairs, seeds, [result["accuracy"] for result in results])
    output.result(
        f"Stage one: {extract_seconds:.1f} s. Stage two: {time.perf_counter() - started:.1f} s for {trained} "
        f"run(s), {len(plans) - trained} kept from before in {runs_folder}."
    )


def _print_table(output: Output, pairs, seeds: int, accuracies) -> None:
    """One row per pair: means over seeds, with the spread over seeds where there are several."""
    columns = {
        "zero-shot": lambda a: a["zero_shot"]["accuracy"],
        "UniMoS (last epoch)": lambda a: a["last"]["accuracy"],
        "oracle best": lambda a: a["oracle_best"]["accuracy"],
    }
    values = {name: [pick(accuracy) for accuracy in accuracies] for name, pick in columns.items()}
    by_pair = {
        name: [column[row * seeds : (row + 1) * seeds] for row in range(len(pairs))] for name, column in values.items()
    }
    rows = [
        [f"{source} -> {target}", *(_mean_std(by_pair[name][row]) for name in columns)]
        for row, (source, target) in enumerate(pairs)
    ]
    by_seed = {name: [statistics.mean(column[seed::seeds]) for seed in range(seeds)] for name, column in values.items()}
    output.table(
        f"icons, tiny CLIP: accuracy on the target in %, {seeds} seed(s)",
        ["pair", *columns],
        rows,
        ["mean of 12 pairs", *(_mean_std(by_seed[name]) for name in columns)],
    )


def _mean_std(values: list[float]) -> str:
    if len(values) == 1 or len(set(values)) == 1:
        return percent(values[0])
    return f"{percent(statistics.mean(values))} ± {percent(statistics.stdev(values))}"
