"""``unimos-pipe adapt``: stage two for one pair of domains."""

from collections.abc import Sequence
from pathlib import Path

import click

import unimos_pipe
from unimos_pipe.base.dataclass_parsing import option_fields
from unimos_pipe.base.errors import ExecutionError
from unimos_pipe.base.method_config import VARIANTS, MethodSpec, display_name, parse_setting
from unimos_pipe.base.ray_cluster import ComputeConfig
from unimos_pipe.base.terminal import Output, format_percent
from unimos_pipe.cache.feature_set import FeatureSet
from unimos_pipe.cli import completion
from unimos_pipe.cli.click_classes import Command, KnownName, SuggestingChoice
from unimos_pipe.cli.feature_options import features_options
from unimos_pipe.cli.json_output import json_options, print_json
from unimos_pipe.cli.next_command import suggest_next
from unimos_pipe.cli.options import (
    device_option,
    option_group,
    protocol_option,
    runs_option,
    stale_option,
    unique_dict,
)
from unimos_pipe.cli.print_diagnostics import print_diagnostics, warn_of_changed_code
from unimos_pipe.runs.method_names import LABEL_SETS, UNIMOS, is_seeded, method_names
from unimos_pipe.runs.run_spec import RunSpec
from unimos_pipe.runs.run_values import RunMetrics
from unimos_pipe.runs.statistics import MeanStd, describe_labelled_rows, mean_and_std
from unimos_pipe.runs.unknown_option import OFF

FIGURES = {"accuracy": "accuracy", "per_class_mean": "per-class mean"}


SETTINGS = dict(option_fields(MethodSpec))


def _setting_help(name: str) -> str:
    """Return the help and default that stand beside the field."""
    entry = SETTINGS[name]
    return f"{entry.metadata['help'].capitalize()}.  [default: {entry.default}]"


def _settings_help() -> str:
    lines = [f"  {name} = {entry.default}: {entry.metadata['help']}" for name, entry in SETTINGS.items()]
    return "\b\nOptions for --set, with their defaults:\n" + "\n".join(lines)


def _training(
    method: str,
    label_set: str | None,
    variant: str,
    epochs: int | None,
    lr: float | None,
    settings: tuple[str, ...],
    protocol: str | None,
    seed: int,
    seeds: int,
    calibrate: bool,
    unknown: str,
    use_target_labels: bool,
) -> "unimos_pipe.AdaptOptions":
    shortcuts = [(name, value) for name, value in (("train.epochs", epochs), ("train.lr", lr)) if value is not None]
    values = unique_dict("--set, --epochs and --lr", [*map(parse_setting, settings), *shortcuts])
    seeds_of = tuple(range(seed, seed + seeds))
    return unimos_pipe.AdaptOptions(
        variant=variant,
        settings=values,
        seeds=seeds_of,
        protocol=protocol,
        method=method,
        label_set=label_set or "",
        calibrate=calibrate,
        unknown=unknown,
        use_target_labels=use_target_labels,
    )


training_options = option_group(
    "training",
    _training,
    click.option(
        "--method",
        type=KnownName("method", method_names),
        default=UNIMOS,
        show_default=True,
        help="UniMoS, one of the closed-form methods (seconds), or auto, an average of several.",
    ),
    click.option(
        "--label-set",
        type=SuggestingChoice(LABEL_SETS),
        help="With --method auto: closed if every class occurs in the target, partial if only some do.",
    ),
    click.option(
        "--variant",
        type=SuggestingChoice(list(VARIANTS)),
        default="full",
        show_default=True,
        help="UniMoS variant: an ablation from Table 5 of the paper, or fused-teacher (ours; loses "
        "where the text is strong).",
    ),
    click.option("--epochs", type=click.IntRange(1), help=_setting_help("train.epochs")),
    click.option("--lr", type=click.FloatRange(0), help=_setting_help("train.lr")),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        shell_complete=completion.settings,
        help="Override a hyperparameter (listed below).",
    ),
    protocol_option,
    click.option("--seed", type=int, default=0, show_default=True, help="Random seed."),
    click.option(
        "--seeds",
        type=click.IntRange(1, 10_000),
        default=1,
        show_default=True,
        help="Number of runs, with seeds from --seed on; finished runs are kept.",
    ),
    click.option(
        "--calibrate/--no-calibrate",
        default=True,
        show_default=True,
        help="Fit a temperature: for UniMoS by a second run that holds out source images, for others to the estimated "
        "accuracy or, where there is none, to held-out source images.",
    ),
    click.option(
        "--use-target-labels",
        is_flag=True,
        help="Learn from the labels that some target images have, too. These images are not scored.",
    ),
    click.option(
        "--unknown",
        default=OFF,
        show_default=True,
        metavar="off|auto|SHARE",
        help="Look for images of none of the classes: as many as their unknown scores suggest (auto), or a share of "
        "the images such as 0.2. Their class is (unknown).",
    ),
)


def _place(runs_folder: Path, out: Path | None, force: bool, stale: str) -> "unimos_pipe.RunLocation":
    return unimos_pipe.RunLocation(runs=runs_folder, out=out, force=force, stale=stale)


place_options = option_group(
    "place",
    _place,
    runs_option,
    click.option(
        "--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder of this run, instead of one below --runs."
    ),
    click.option("--force", is_flag=True, help="Retrain finished runs."),
    stale_option,
)


@click.command(epilog=_settings_help(), cls=Command)
@click.option(
    "--src",
    "sources",
    required=True,
    multiple=True,
    metavar="DOMAIN",
    shell_complete=completion.domains,
    help="Labelled source domain; repeat it to merge several.",
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
@click.option("--encoder-id", metavar="ID", help="Cache folder of the features, if several match.")
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
    training: "unimos_pipe.AdaptOptions",
    device: str,
    place: "unimos_pipe.RunLocation",
) -> None:
    """Stage two: adapt to a target domain from cached features alone.

    \b
    Examples:
      unimos-pipe adapt --src art --tgt clipart
      unimos-pipe adapt --src art --src product --tgt clipart
      unimos-pipe adapt --dataset icons --src line --tgt sketch --seeds 3 --set loss.gamma=0.05
      unimos-pipe adapt --dataset icons --src line --tgt sketch --method auto --label-set closed
    """
    pairs = [("+".join(sources), target)]
    runs = unimos_pipe.adapt_pairs(features, pairs, training, place, compute=ComputeConfig(device), reporter=output)
    mean = _mean_over_seeds(runs)
    print_json(output, {"runs": runs, "mean": mean})
    for run in runs:
        if run.result:
            output.result(run_summary(run.spec, run.result))
            print_diagnostics(output, run.spec, run.result, features.dataset.classes)
            output.note(f"  {'kept in' if run.reused else 'written to'} {run.folder}")
    warn_of_changed_code(output, runs)
    if mean:
        _tell_mean(output, runs, mean)
    if failures := [f"{run.folder}: {run.error}" for run in runs if run.error]:
        raise ExecutionError("; ".join(failures))
    suggest_next(output, "report", runs[0].folder if len(runs) == 1 else runs[0].folder.parent)


def _mean_over_seeds(runs: "Sequence[unimos_pipe.RunResult]") -> MeanStd | None:
    """Return mean and std of the published figure over several seeds; None without target labels."""
    done = [(run.spec.target, run.spec.seed, run.accuracy) for run in runs if run.accuracy is not None]
    return mean_and_std(done) if len(done) > 1 else None


def _tell_mean(output: Output, runs: "Sequence[unimos_pipe.RunResult]", mean: MeanStd) -> None:
    done = [run for run in runs if run.accuracy is not None]
    run = done[0]
    head = f"{run.spec.source} -> {run.spec.target}, {display_name(run.spec.label())}, {len(done)} seeds"
    output.result(f"{head}: {FIGURES[run.result.metric]} {mean.text()} (mean ± std over seeds)")


def run_summary(run: RunSpec, result: RunMetrics) -> str:
    """Return one line: the data set's published figure, the other figure, and the protocol."""
    tuned = run.method == UNIMOS
    name = f"{display_name(run.label())}, seed {run.seed}" if is_seeded(run.method) else run.label()
    head = f"{run.source} -> {run.target}, {name} ({run.protocol})"
    accuracy = result.accuracy
    if accuracy is None:
        taught = f" after learning from {result.taught_rows} labels of the target" if result.taught_rows else ""
        return f"{head}: {result.scored_rows} rows without labels predicted in {result.seconds:.1f} s{taught}"
    rows, labelled = result.scored_rows, result.labelled_rows
    some = f"; accuracy on {describe_labelled_rows(accuracy.last.accuracy, labelled, rows)}" if labelled < rows else ""
    first = result.metric
    (second,) = FIGURES.keys() - {first}
    figures = [
        f"{FIGURES[first]} {'UniMoS' if tuned else run.method} {format_percent(getattr(accuracy.last, first))}"
        + (" (last epoch)" if tuned else ""),
    ]
    if accuracy.zero_shot:
        figures.append(f"zero-shot {format_percent(getattr(accuracy.zero_shot, first))}")
    if tuned:
        best = accuracy.oracle_best
        figures.append(f"oracle best {format_percent(getattr(best, first))} (epoch {best.epoch})")
    other = f"{FIGURES[second]} {format_percent(getattr(accuracy.last, second))}{some}"
    taught = f"; {_describe_taught(run, result)}" if result.taught_rows else ""
    return f"{head}: {', '.join(figures)}; {other}{taught}; {result.seconds:.1f} s"


def _describe_taught(run: RunSpec, result: RunMetrics) -> str:
    """Return how many labels of the target taught, and how their rows are scored."""
    if run.method == UNIMOS or run.protocol == "inductive":
        return f"{result.taught_rows} labels of the target taught and are not scored"
    return f"{result.taught_rows} labels of the target taught; each is scored by a fit without it"
