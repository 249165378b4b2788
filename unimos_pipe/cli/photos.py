"""``unimos-pipe photos``: from two folders to sorted photos."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

import unimos_pipe
from unimos_pipe.base.encoder_presets import PRESETS
from unimos_pipe.base.errors import Call
from unimos_pipe.base.optional_deps import install_command
from unimos_pipe.base.ray_cluster import ComputeConfig
from unimos_pipe.base.terminal import Output, format_percent
from unimos_pipe.cli.click_classes import Command, SuggestingChoice
from unimos_pipe.cli.compose_commands import command_line
from unimos_pipe.cli.manifest import describe_update
from unimos_pipe.cli.next_command import suggest_next
from unimos_pipe.cli.options import device_option, folder_option, option_group
from unimos_pipe.cli.sort import show_sorted
from unimos_pipe.runs.method_names import LABEL_SETS
from unimos_pipe.runs.run_values import RunMetrics
from unimos_pipe.runs.statistics import describe_labelled_rows
from unimos_pipe.runs.unknown_option import OFF

if TYPE_CHECKING:
    from unimos_pipe.data.update_dataset import DatasetUpdate

STEPS = 5
MANY_UNKNOWN = 0.25  # share of photos


def _job_options(
    encoder: str | None, unknown: str, label_set: str | None, copy: bool, precision: float, workers: int
) -> "unimos_pipe.PhotoJobOptions":
    sorting = unimos_pipe.SortOptions(copy=copy, precision=precision)
    return unimos_pipe.PhotoJobOptions(
        encoder=encoder or "", unknown=unknown, label_set=label_set or "", sort=sorting, workers=workers
    )


job_options = option_group(
    "options",
    _job_options,
    click.option(
        "--encoder",
        type=SuggestingChoice(list(PRESETS)),
        metavar="NAME",
        help="Encoder preset (encoder ls). Default: ViT-B-16; that of the earlier job where there is one.",
    ),
    click.option(
        "--unknown",
        default=OFF,
        show_default=True,
        metavar="off|auto|SHARE",
        help="Photos of none of the classes: not looked for, as many as their scores suggest, or a share such as 0.2.",
    ),
    click.option(
        "--label-set",
        type=SuggestingChoice(LABEL_SETS),
        help="closed if every class occurs among the photos, partial if only some do.",
    ),
    click.option("--copy", is_flag=True, help="Copies instead of links."),
    click.option(
        "--precision",
        type=click.FloatRange(0, 1),
        default=0.9,
        show_default=True,
        metavar="P",
        help="Expected share of correct photos in the class folders; the others go to review/.",
    ),
    click.option(
        "--workers", type=click.IntRange(0, 1024), default=2, show_default=True, help="Processes that decode images."
    ),
)


@click.command(cls=Command)
@click.argument("shop", type=click.Path(path_type=Path), metavar="SHOP")
@click.argument("phone", type=click.Path(path_type=Path), metavar="PHONE")
@folder_option("--to", default=Path("sorted"), help="Where the class folders go; apart from the photos.")
@folder_option("--work", default=Path("photo-work"), help="Spec, label file, run and report of the job.")
@job_options
@folder_option("--cache", help="Feature cache. Default: $UNIMOS_CACHE, otherwise the user's cache folder.")
@device_option
@click.pass_obj
def photos(
    output: Output,
    shop: Path,
    phone: Path,
    to: Path,
    work: Path,
    options: "unimos_pipe.PhotoJobOptions",
    cache: Path | None,
    device: str,
) -> None:
    """Sort unlabelled photos by the classes of labelled ones.

    \b
    SHOP has a folder of images for each class, PHONE the photos to sort. Example:
      unimos-pipe photos photos/shop photos/DCIM --to sorted

    It runs manifest scan (later manifest update), extract, adapt --method auto, report and sort, and prints each of
    these commands. Finished steps are kept: an interrupted job resumes, and after labels were typed or photos were
    added it does the rest.
    """
    count = 0

    def show_step(call: Call) -> None:
        nonlocal count
        count += 1
        output.note(f"{count}/{STEPS}  {command_line(call)}")

    result = unimos_pipe.run_photo_job(
        shop,
        phone,
        to,
        work,
        options,
        cache=cache,
        compute=ComputeConfig(device),
        reporter=output,
        on_step=show_step,
        on_update=lambda update: _show_update(output, update),
        on_encoder=lambda weights: _show_encoder(output, weights),
        format_call=command_line,
    )
    _show_accuracy(output, result.run.result, result.labels_like_random)
    show_sorted(output, result.sorted, options.sort)
    unknown = result.run.result.unknown
    if unknown and unknown.share > MANY_UNKNOWN:
        percent = format_percent(unknown.share)
        output.warn(
            f"{percent}% of the photos look like none of the classes; if that is too many, say --unknown off, or their "
            "share such as 0.1"
        )
    if result.report is None:
        output.note(f"  for a report: {install_command('report')}")
    else:
        output.result(f"  report: {result.report.page}")
    output.note("  label the photos that teach most, review them, then run photos again:")
    suggest_next(output, "label", "next", "--run", result.run.folder, "-n", 50)


def _show_update(output: Output, update: "DatasetUpdate") -> None:
    for note in update.notes:
        output.warn(note)
    for domain in update.domains:
        if not domain.is_empty:
            for line in describe_update(domain):
                output.note(f"     {line}")


def _show_encoder(output: Output, weights: "unimos_pipe.EncoderWeights") -> None:
    preset = PRESETS.get(weights.name)
    about = f" ({preset.spec.model}, {preset.licence})" if preset else ""
    size = f"{weights.download_bytes / 1e6:,.0f} MB to download" if weights.download_bytes else "not on this machine"
    output.note(f"     encoder {weights.name or 'of the spec'}{about}: {'on this machine' if weights.here else size}")


def _show_accuracy(output: Output, result: RunMetrics, labels_like_random: bool) -> None:
    """Print the accuracy on labelled photos, and the estimate where these do not stand for all."""
    estimate = result.estimate
    if result.accuracy:
        value = result.accuracy.last.accuracy
        rows = describe_labelled_rows(value, result.labelled_rows, result.scored_rows)
        chosen = "" if labels_like_random else "; these are no random choice, so it is not that of all photos"
        taught = "; they teach, and each is scored by a fit without it" if result.taught_rows else ""
        output.result(f"accuracy {format_percent(value)} on {rows}{taught}{chosen}")
        if labels_like_random:
            return
    if estimate.accuracy is not None:
        low, high = format_percent(estimate.low), format_percent(estimate.high)
        output.result(f"estimated accuracy {format_percent(estimate.accuracy)}, from {low} to {high}")
    else:
        output.result(f"the accuracy cannot be estimated: {estimate.reason}")
