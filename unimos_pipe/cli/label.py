"""``unimos-pipe label``: labels of a target's images."""

from pathlib import Path

import click

import unimos_pipe
from unimos_pipe.base.terminal import Output
from unimos_pipe.cli import completion
from unimos_pipe.cli.click_classes import Command, Group, SuggestingChoice
from unimos_pipe.cli.next_command import suggest_next
from unimos_pipe.cli.options import device_option, folder_option
from unimos_pipe.runs.method_names import LABEL_CHOICES

SHOWN = 5


@click.group(cls=Group)
def label() -> None:
    """Choose the images of a target to label."""


@label.command("next", cls=Command)
@click.option(
    "--run", "run_folder", required=True, type=click.Path(path_type=Path), metavar="DIR", help="A finished run."
)
@click.option("-n", "--count", type=click.IntRange(1), default=50, show_default=True, help="Number of images.")
@click.option(
    "--way",
    type=SuggestingChoice(LABEL_CHOICES),
    default=LABEL_CHOICES[0],
    show_default=True,
    help="The least sure images, those where zero-shot disagrees, the least sure of each of N clusters, or any.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed of coverage and random.")
@click.option(
    "--dataset", metavar="NAME|FILE.toml", shell_complete=completion.datasets, help="Default: the run's data set."
)
@folder_option("--cache", help="Feature cache. Default: $UNIMOS_CACHE, otherwise the user's cache folder.")
@device_option
@click.pass_obj
def next_images(
    output: Output,
    run_folder: Path,
    count: int,
    way: str,
    seed: int,
    dataset: str | None,
    cache: Path | None,
    device: str,
) -> None:
    """Choose images to label.

    \b
    Their rows move to the beginning of the target's label file, the most useful first. Label them there or with
    review, then run extract and adapt --use-target-labels. Only random images tell the accuracy on all images.
    Example:
      unimos-pipe label next --run phone-run -n 50
    """
    chosen = unimos_pipe.choose_images_to_label(
        run_folder, count, way=way, seed=seed, dataset=dataset, cache=cache, device=device
    )
    output.result(f"{chosen.table}: {len(chosen.paths)} of {chosen.unlabelled} images without a label are now first")
    for path in chosen.paths[:SHOWN]:
        output.note(f"  {path}")
    if len(chosen.paths) > SHOWN:
        output.note(f"  and {len(chosen.paths) - SHOWN} more")
    suggest_next(output, "review", run_folder)
