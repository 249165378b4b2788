"""``unimos-pipe adapt``: stage two for one pair of domains."""

from pathlib import Path

import click

from unimos_pipe.base.config import VARIANTS, method_spec, option_fields, parse_setting
from unimos_pipe.base.console import Output, percent
from unimos_pipe.base.errors import RunError, UserError
from unimos_pipe.cli.options import DataOptions, data_options, device_option, protocol_option, runs_option


def _settings_help() -> str:
    lines = [f"  {name} = {entry.default}: {entry.metadata['help']}" for name, entry in option_fields()]
    return "\b\nOptions for --set, with their defaults:\n" + "\n".join(lines)


@click.command(epilog=_settings_help())
@click.option("--src", "source", required=True, metavar="DOMAIN", help="Labelled source domain.")
@click.option("--tgt", "target", required=True, metavar="DOMAIN", help="Unlabelled target domain.")
@data_options
@click.option("--encoder-id", metavar="ID", help="Cache folder of the features, where several fit.")
@click.option(
    "--variant",
    type=click.Choice(list(VARIANTS)),
    default="full",
    show_default=True,
    help="An ablation of the paper's table 5.",
)
@click.option("--epochs", type=click.IntRange(1), help="Epochs.  [default: 50]")
@click.option("--lr", type=click.FloatRange(0), help="Initial learning rate.  [default: 0.003]")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change any number of the method; see below."
)
@protocol_option
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything random.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Runs with seeds from --seed on.")
@device_option
@runs_option
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="This run's folder, instead of one in --runs."
)
@click.option("--force", is_flag=True, help="Train again even if the run is finished.")
@click.pass_obj
def adapt(
    output: Output,
    source: str,
    target: str,
    data: DataOptions,
    variant: str,
    epochs: int | None,
    lr: float | None,
    settings: tuple[str, ...],
    protocol: str | None,
    seed: int,
    seeds: int,
    device: str,
    runs_folder: Path,
    out: Path | None,
    force: bool,
) -> None:
    """Stage two: adapt to a target domain from cached features alone.

    \b
    Examples:
      unimos-pipe adapt --src art --tgt clipart
      unimos-pipe adapt --dataset icons --src line --tgt sketch --seeds 3 --set loss.gamma=0.05
    """
    spec = data.dataset
    spec.domain(source)
    spec.domain(target)
    if source == target:
        raise UserError(f"--src and --tgt are both {source!r}; adaptation needs two domains")
    protocol = spec.protocol(protocol)
    chosen = {"train.epochs": epochs, "train.lr": lr}
    values = dict(parse_setting(text) for text in settings)
    values |= {name: value for name, value in chosen.items() if value is not None}
    method = method_spec(variant, values, "adapt")
    folder = data.encoder_folder()

    from unimos_pipe.adapt.stacks import TRAINING_DTYPES, PlannedRun
    from unimos_pipe.adapt.stacks import adapt as train
    from unimos_pipe.base.device import pick_device
    from unimos_pipe.cache.store import FeatureStore
    from unimos_pipe.methods.task import PairLoader
    from unimos_pipe.runs.folder import check_place
    from unimos_pipe.runs.spec import RunSpec

    plans = []
    for number in range(seed, seed + seeds):
        run = RunSpec(spec.name, folder.name, source, target, variant, number, data.templates, method, protocol)
        place = run.folder(runs_folder) if out is None else out if seeds == 1 else out / f"seed{number}"
        check_place(place, force=force)
        plans.append(PlannedRun(run, place))
    loader = PairLoader(
        FeatureStore(spec, folder, data.extract_command),
        data.templates,
        TRAINING_DTYPES[method.train.precision],
        pick_device(device),
    )
    loader.pair(source, target, protocol)  # every fault of the cache shows before a folder is touched
    with output.progress(f"{source} -> {target}", seeds * method.train.epochs, "epochs") as advance:
        outcomes = train(plans, loader, on_epochs=advance)
    for plan, outcome in zip(plans, outcomes, strict=True):
        if outcome.result:
            output.result(_summary(plan.spec, outcome.result))
            output.note(f"  written to {plan.folder}")
    if failures := [f"{plan.folder}: {o.error}" for plan, o in zip(plans, outcomes, strict=True) if o.error]:
        raise RunError("; ".join(failures))


def _summary(run, result) -> str:
    """One line: the published figure of the data set first, the other one beside it, and the protocol."""
    head = f"{run.source} -> {run.target}, {run.label()}, seed {run.seed} ({run.protocol})"
    accuracy = result["accuracy"]
    if accuracy is None:
        return f"{head}: {result['scored_rows']} rows without labels predicted in {result['seconds']:.1f} s"
    names = {"accuracy": "accuracy", "per_class_mean": "per-class mean"}
    first = result["metric"]
    (second,) = names.keys() - {first}
    return (
        f"{head}: {names[first]} UniMoS {percent(accuracy['last'][first])} (last epoch), zero-shot "
        f"{percent(accuracy['zero_shot'][first])}, oracle best {percent(accuracy['oracle_best'][first])} "
        f"(epoch {accuracy['oracle_best']['epoch']}); {names[second]} {percent(accuracy['last'][second])}; "
        f"{result['seconds']:.1f} s"
    )
