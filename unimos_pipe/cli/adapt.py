"""``unimos-pipe adapt``: stage two for one pair of domains."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

import unimos_pipe
from unimos_pipe.base.errors import RunError
from unimos_pipe.base.method_config import VARIANTS, option_fields, parse_setting, titled
from unimos_pipe.base.ray_cluster import Compute
from unimos_pipe.base.terminal import Output, percent
from unimos_pipe.cache.feature_set import FeatureSet
from unimos_pipe.cli import completion
from unimos_pipe.cli.click_classes import Command, OneOf
from unimos_pipe.cli.json_output import answer, json_options
from unimos_pipe.cli.next_command import follow
from unimos_pipe.cli.options import device_option, each_once, features_options, grouped, protocol_option, runs_option
from unimos_pipe.cli.print_diagnostics import tell_known
from unimos_pipe.runs.method_names import METHODS, TARGET_CLASSES, UNIMOS
from unimos_pipe.runs.run_spec import RunSpec
from unimos_pipe.runs.statistics import MeanSpread, mean_and_spread, on_labelled_rows

FIGURES = {"accuracy": "accuracy", "per_class_mean": "per-class mean"}


def _settings_help() -> str:
    lines = [f"  {name} = {entry.default}: {entry.metadata['help']}" for name, entry in option_fields()]
    return "\b\nOptions for --set, with their defaults:\n" + "\n".join(lines)


def _training(
    method: str,
    target_classes: str | None,
    variant: str,
    epochs: int | None,
    lr: float | None,
    settings: tuple[str, ...],
    protocol: str | None,
    seed: int,
    seeds: int,
    calibrate: bool,
) -> "unimos_pipe.Training":
    named = [(name, value) for name, value in (("train.epochs", epochs), ("train.lr", lr)) if value is not None]
    values = each_once("--set, --epochs and --lr", [*map(parse_setting, settings), *named])
    seeds_of = tuple(range(seed, seed + seeds))
    return unimos_pipe.Training(variant, values, seeds_of, protocol, method, target_classes or "", calibrate)


training_options = grouped(
    "training",
    _training,
    click.option(
        "--method",
        type=OneOf(METHODS),
        default=UNIMOS,
        show_default=True,
        help="UniMoS, one of the methods that are fitted in seconds, or auto: one of these, chosen without labels.",
    ),
    click.option(
        "--target-classes",
        type=OneOf(TARGET_CLASSES),
        help="With --method auto: whether all of the classes occur in the target, or only some.",
    ),
    click.option(
        "--variant",
        type=OneOf(list(VARIANTS)),
        default="full",
        show_default=True,
        help="Of UniMoS: an ablation of the paper's table 5, or fused-teacher, which is ours.",
    ),
    click.option("--epochs", type=click.IntRange(1), help="Epochs.  [default: 50]"),
    click.option("--lr", type=click.FloatRange(0), help="Initial learning rate.  [default: 0.003]"),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        shell_complete=completion.settings,
        help="Change any number of the method; see below.",
    ),
    protocol_option,
    click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything random."),
    click.option(
        "--seeds",
        type=click.IntRange(1, 10_000),
        default=1,
        show_default=True,
        help="Runs with seeds from --seed on; finished ones are kept.",
    ),
    click.option(
        "--calibrate/--no-calibrate",
        default=True,
        show_default=True,
        help="Fit a temperature to held-out source answers: by a second run for UniMoS, by five fits for others.",
    ),
)


def _place(runs_folder: Path, out: Path | None, force: bool) -> "unimos_pipe.Place":
    return unimos_pipe.Place(runs_folder, out, force)


place_options = grouped(
    "place",
    _place,
    runs_option,
    click.option(
        "--out", type=click.Path(path_type=Path), metavar="DIR", help="This run's folder, instead of one in --runs."
    ),
    click.option("--force", is_flag=True, help="Train again what is finished, too."),
)


@click.command(epilog=_settings_help(), cls=Command)
@click.option(
    "--src",
    "sources",
    required=True,
    multiple=True,
    metavar="DOMAIN",
    shell_complete=completion.domains,
    help="Labelled source domain; several make one.",
)
@click.option(
    "--tgt",
    "target",
    required=True,
    metavar="DOMAIN",
    shell_complete=completion.domains,
    help="Unlabelled target domain.",
)
@features_options
@click.option("--encoder-id", metavar="ID", help="Cache folder of the features, where several fit.")
@training_options
@device_option
@place_options
@json_options
@click.pass_obj
def adapt(
    output: Output,
    sources: tuple[str, ...],
    target: str,
    features: FeatureSet,
    training: "unimos_pipe.Training",
    device: str,
    place: "unimos_pipe.Place",
) -> None:
    """Stage two: adapt to a target domain from cached features alone.

    \b
    Examples:
      unimos-pipe adapt --src art --tgt clipart
      unimos-pipe adapt --src art --src product --tgt clipart
      unimos-pipe adapt --dataset icons --src line --tgt sketch --seeds 3 --set loss.gamma=0.05
      unimos-pipe adapt --dataset icons --src line --tgt sketch --method auto --target-classes all
    """
    pairs = [("+".join(sources), target)]
    runs = unimos_pipe.adapt_pairs(features, pairs, training, place, compute=Compute(device), watch=output)
    mean = _mean_over_seeds(runs)
    answer(output, {"runs": runs, "mean": mean})
    for run in runs:
        if run.result:
            output.result(_summary(run.spec, run.result))
            tell_known(output, run.spec, run.result, features.dataset.classes)
            output.note(f"  {'kept in' if run.kept else 'written to'} {run.folder}")
    if mean:
        _tell_mean(output, runs, mean)
    if failures := [f"{run.folder}: {run.error}" for run in runs if run.error]:
        raise RunError("; ".join(failures))
    follow(output, "report", runs[0].folder if len(runs) == 1 else runs[0].folder.parent)


def _mean_over_seeds(runs: "Sequence[unimos_pipe.TrainedRun]") -> MeanSpread | None:
    """Of the published figure, where several seeds are done and the target has labels."""
    done = [(run.spec.target, run.spec.seed, run.accuracy) for run in runs if run.accuracy is not None]
    return mean_and_spread(done) if len(done) > 1 else None


def _tell_mean(output: Output, runs: "Sequence[unimos_pipe.TrainedRun]", mean: MeanSpread) -> None:
    done = [run for run in runs if run.accuracy is not None]
    run = done[0]
    head = f"{run.spec.source} -> {run.spec.target}, {titled(run.spec.label())}, {len(done)} seeds"
    output.result(f"{head}: {FIGURES[run.result['metric']]} {mean.text()} (mean ± std over seeds)")


def _summary(run: RunSpec, result: Mapping[str, Any]) -> str:
    """One line: the published figure of the data set first, the other one beside it, and the protocol."""
    tuned = run.method == UNIMOS
    name = f"{titled(run.label())}, seed {run.seed}" if tuned else run.label()
    head = f"{run.source} -> {run.target}, {name} ({run.protocol})"
    accuracy = result["accuracy"]
    if accuracy is None:
        return f"{head}: {result['scored_rows']} rows without labels predicted in {result['seconds']:.1f} s"
    rows, labelled = result["scored_rows"], result["labelled_rows"]
    some = f"; accuracy on {on_labelled_rows(accuracy['last']['accuracy'], labelled, rows)}" if labelled < rows else ""
    first = result["metric"]
    (second,) = FIGURES.keys() - {first}
    figures = [
        f"{FIGURES[first]} {'UniMoS' if tuned else run.method} {percent(accuracy['last'][first])}"
        + (" (last epoch)" if tuned else ""),
        f"zero-shot {percent(accuracy['zero_shot'][first])}",
    ]
    if tuned:
        best = accuracy["oracle_best"]
        figures.append(f"oracle best {percent(best[first])} (epoch {best['epoch']})")
    other = f"{FIGURES[second]} {percent(accuracy['last'][second])}{some}"
    return f"{head}: {', '.join(figures)}; {other}; {result['seconds']:.1f} s"
