"""Options shared by several commands, and the values made from them."""

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

import unimos_pipe
from unimos_pipe.base.encoder_presets import find_encoder
from unimos_pipe.base.errors import InputError
from unimos_pipe.base.method_config import EncoderSpec
from unimos_pipe.base.ray_cluster import ComputeConfig, RayOptions
from unimos_pipe.base.safe_open import DEFAULT_MAX_PIXELS, PIXEL_LIMIT
from unimos_pipe.cache.encoder_identity import is_weights_name
from unimos_pipe.cli import completion
from unimos_pipe.cli.click_classes import FolderPath, KnownName, SuggestingChoice
from unimos_pipe.data.dataset_spec import PROTOCOLS
from unimos_pipe.runs.resolved_recipe import ResolvedRecipe, resolve_recipe
from unimos_pipe.runs.validator_names import epoch_validators


def option_group(name: str, make: Callable, *options: Callable) -> Callable[[Callable], Callable]:
    """Add options to a command, which gets ``make`` of their values as its parameter ``name``.

    The parameters of ``make`` are named like the options; those with a default may be options of the command itself.
    """
    parameters = inspect.signature(make).parameters

    def add(command: Callable) -> Callable:
        @functools.wraps(command)
        def wrapped(*args, **kwargs):
            values = {key: kwargs.pop(key) for key in parameters if key in kwargs}
            return command(*args, **{name: make(**values)}, **kwargs)

        for option in reversed(options):
            wrapped = option(wrapped)
        return wrapped

    return add


def folder_option(*names: str, help: str, default: Path | None = None) -> Callable[[Callable], Callable]:
    """An option that names a folder."""
    return click.option(
        *names,
        type=click.Path(path_type=Path),
        metavar="DIR",
        default=default,
        show_default=default is not None,
        help=help,
    )


cache_option = folder_option(
    "--cache", help="Feature cache. Default: $UNIMOS_CACHE, otherwise the user's cache folder."
)
runs_option = folder_option("--runs", "runs_folder", default=Path("runs"), help="Folder for runs.")

trust_option = click.option(
    "--allow-torchscript",
    is_flag=True,
    help="Load a weights file that is a TorchScript archive not from OpenAI; it can run code.",
)


def unique_dict(options: str, pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return the values by name. Raises InputError for a name given twice by ``options``."""
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise InputError(f"{name} is given more than once by {options}: {values[name]}, {value}. Give it once")
        values[name] = value
    return values


data_root_option = click.option(
    "--data-root",
    type=FolderPath(path_type=Path),
    envvar="UNIMOS_DATA_ROOT",
    show_envvar=True,
    metavar="DIR",
    help="Folder that holds the domains' folders, or the data set's. Not needed for embedded data.",
)
strict_counts_option = click.option(
    "--strict-counts", is_flag=True, help="Fail if image counts differ from the published ones (default: warn)."
)
protocol_option = click.option(
    "--protocol",
    type=SuggestingChoice(PROTOCOLS),
    help="Inductive (default where there are splits): learn from the target's train rows, score its test rows. Open: "
    "the source lacks the unknown_classes of the spec.",
)


def encoder_spec(
    preset: str, model: str | None, pretrained: str | None, precision: str, trust: bool = False
) -> EncoderSpec:
    """The spec of a preset with its model or weights replaced. Raises InputError for an unknown preset."""
    spec = find_encoder(preset, "others by --model and --pretrained")
    if model and is_weights_name(model) and pretrained:
        raise InputError(f"--model {model} names its own weights; omit --pretrained")
    if model and not pretrained and not is_weights_name(model):
        raise InputError("--model needs --pretrained, the weights to load (a tag or a file)")
    chosen = {"model": model, "pretrained": pretrained, "allow_torchscript": trust}
    return replace(spec, precision=precision, **{key: value for key, value in chosen.items() if value})


device_option = click.option(
    "--device",
    type=SuggestingChoice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Device; auto takes a CUDA GPU if there is one.",
)


def _compute(
    device: str, engine: str, address: str | None, cpus_per_job: float, gpus_per_job: float | None
) -> ComputeConfig:
    options = RayOptions(address=address, cpus=cpus_per_job, gpus=gpus_per_job)
    return ComputeConfig(device, options if engine == "ray" else None)


compute_options = option_group(
    "compute",
    _compute,
    device_option,
    click.option(
        "--engine",
        type=SuggestingChoice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Run in this process, or on the machines of a Ray cluster.",
    ),
    click.option(
        "--address", metavar="HOST:PORT|auto", help="Ray cluster to use. Default: one started on this machine."
    ),
    click.option(
        "--cpus-per-job",
        type=click.FloatRange(0, min_open=True),
        default=1.0,
        show_default=True,
        help="Cores per Ray job.",
    ),
    click.option(
        "--gpus-per-job",
        type=click.FloatRange(0, min_open=True),
        help="GPUs per Ray job on CUDA; below one, jobs share a GPU. Default: 1.",
    ),
)


class _BatchSize(click.ParamType):
    """A positive number, or ``auto``."""

    name = "N|auto"

    def convert(self, value, param, ctx):
        """Return the number, or the word auto."""
        return value if value == "auto" else click.IntRange(1).convert(value, param, ctx)


batch_size_option = click.option(
    "--batch-size",
    type=_BatchSize(),
    default=64,
    show_default=True,
    help="Images per encoder call; auto measures the fastest.",
)
max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(1, PIXEL_LIMIT),
    default=DEFAULT_MAX_PIXELS,
    show_default=True,
    help="Largest image to read; those above 89 million pixels are read at a fraction of their size.",
)
workers_option = click.option(
    "--workers", type=click.IntRange(0, 1024), help="Processes that decode images. Default: 2, on a GPU one per core."
)


def _recipe(
    recipe: str,
    cache: Path | None,
    pretrained: str | None,
    allow_torchscript: bool,
    seeds: int | None,
    protocol: str | None,
    encoder_id: str | None = None,
) -> ResolvedRecipe:
    return resolve_recipe(
        recipe,
        cache=cache,
        pretrained=pretrained,
        allow_torchscript=allow_torchscript,
        encoder_id=encoder_id,
        seeds=seeds,
        protocol=protocol,
    )


recipe_options = option_group(
    "resolved",
    _recipe,
    click.argument("recipe", metavar="RECIPE", shell_complete=completion.recipes),
    cache_option,
    click.option("--pretrained", metavar="TAG|FILE", help="Weights of the encoder, instead of the preset's."),
    trust_option,
    click.option("--seeds", type=click.IntRange(1, 10_000), help="Seeds per pair, instead of the recipe's."),
    protocol_option,
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Print the work and its estimated time, then stop.")


def show_choices() -> tuple[str, ...]:
    """Return the rows that a sweep's table may have in addition."""
    return (*epoch_validators(), "oracle", "probes")


stale_option = click.option(
    "--stale",
    type=SuggestingChoice(["keep", "rerun", "error"]),
    default="keep",
    show_default=True,
    help="Finished runs whose method's source has changed since: keep them with a warning, run them again, or stop.",
)


def _sweep(
    stack_size: int | None, force: bool, stale: str, show: tuple[str, ...], shard: tuple[int, int] | None = None
) -> "unimos_pipe.SweepOptions":
    return unimos_pipe.SweepOptions(stack_size=stack_size, force=force, stale=stale, shard=shard, show=show)


sweep_options = option_group(
    "options",
    _sweep,
    click.option(
        "--stack-size",
        type=click.IntRange(1),
        metavar="N",
        help="Runs trained together as one stack. Default: what memory allows, at most 36. A CPU trains as many stacks "
        "side by side as it has threads.",
    ),
    click.option("--force", is_flag=True, help="Retrain finished runs; each is replaced once the new one is complete."),
    stale_option,
    click.option(
        "--show",
        type=KnownName("row", show_choices),
        multiple=True,
        help="Also show the epoch a label-free validator picks, the best one by target labels (oracle), or logistic "
        "regressions of the source and, as an oracle, of the target's labels (probes); repeatable.",
    ),
)


def domains_option(help: str):
    """``--domain NAME``, repeatable, completed by the data set's domains."""
    return click.option(
        "--domain", "domains", multiple=True, metavar="NAME", shell_complete=completion.domains, help=help
    )
