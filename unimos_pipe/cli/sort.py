"""``unimos-pipe sort``: photos of a run in a folder for each class."""

import math
from pathlib import Path

import click

import unimos_pipe
from unimos_pipe.base.errors import join_names
from unimos_pipe.base.terminal import Output, format_percent
from unimos_pipe.cli.click_classes import Command
from unimos_pipe.cli.next_command import suggest_next
from unimos_pipe.cli.options import folder_option, option_group
from unimos_pipe.runs.statistics import wilson_interval

BASES = {"source": "held-out labelled photos of the source", "estimate": "the estimated accuracy"}


def _sort_options(copy: bool, review_below: float | None, precision: float | None) -> "unimos_pipe.SortOptions":
    return unimos_pipe.SortOptions(copy=copy, review_below=review_below, precision=precision)


sort_options = option_group(
    "options",
    _sort_options,
    click.option("--copy", is_flag=True, help="Copies instead of links."),
    click.option(
        "--review-below",
        type=click.FloatRange(0, 1),
        metavar="P",
        help="Put photos of a lower probability into review/.",
    ),
    click.option(
        "--precision",
        type=click.FloatRange(0, 1),
        metavar="P",
        help="Sort as many photos as this expected share of correct ones allows; the others go to review/.",
    ),
)


@click.command(cls=Command)
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@folder_option("--to", default=Path("sorted"), help="Where the class folders and sorted.csv go; apart from the photos.")
@sort_options
@folder_option("--data-root", help="Folder of the photos. Default: the one that the data set's spec names.")
@folder_option("--cache", help="Where embedded images are unpacked.")
@click.pass_obj
def sort(
    output: Output,
    run: Path,
    to: Path,
    options: "unimos_pipe.SortOptions",
    data_root: Path | None,
    cache: Path | None,
) -> None:
    """Sort photos into a folder for each class.

    \b
    Makes links, or copies, and never moves or changes a photo. Example:
      unimos-pipe sort phone-run --to sorted --precision 0.95

    Labels typed in the label file win over predictions. Photos of no class are in unknown/, doubtful ones in review/.
    Repeat it after corrections: only its own links change. sorted.csv has a row for each photo.
    """
    result = unimos_pipe.sort_photos(run, to, options, root=data_root, cache=cache, reporter=output)
    show_sorted(output, result, options)
    suggest_next(output, "review", run)


def show_sorted(output: Output, result: "unimos_pipe.SortResult", options: "unimos_pipe.SortOptions") -> None:
    """Print where the photos went, the threshold and the expected error."""
    review, unknown = (result.counts.get(name, 0) for name in ("review", "unknown"))
    placed = sum(result.counts.values())
    classes = len({*result.counts} - {"review", "unknown"})
    parts = [f"{placed - review - unknown} in {classes} class folders", f"{review} in review", f"{unknown} in unknown"]
    labels = f"; {result.labelled} by typed labels" if result.labelled else ""
    output.result(f"{result.folder}: {result.photos} photos: {', '.join(parts)}{labels}")
    if options.precision is not None:
        value = "none is high enough" if math.isinf(result.threshold) else f"{result.threshold:.3f}"
        output.result(f"  probability for an expected precision of {format_percent(options.precision)}%: {value}")
    if result.expected_error is not None:
        basis = BASES.get(result.basis, result.basis)
        output.result(
            f"  expected error of what predictions sorted: {format_percent(result.expected_error)}% "
            f"(probabilities calibrated on {basis})"
        )
    elif placed - review - unknown > result.labelled:
        output.result("  expected error unknown: the run's probabilities are not calibrated")
    wrong, checked = result.label_errors
    if checked:
        low, high = (format_percent(value) for value in wilson_interval(wrong / checked, checked))
        output.result(
            f"  of {checked} labelled photos that predictions would have sorted, {wrong} are wrong: "
            f"{format_percent(wrong / checked)}%, 95% interval {low} to {high}"
        )
    changes = result.changes
    kind = "copies" if options.copy else "links"
    output.note(f"  {kind}: {len(changes.added)} new, {len(changes.removed)} removed, {len(changes.kept)} kept")
    output.note(f"  every photo: {result.table}")
    _warn(output, result)


def _warn(output: Output, result: "unimos_pipe.SortResult") -> None:
    for names, text in (
        (result.missing, "photo(s) are not there and in no folder"),
        (result.changes.blocked, "name(s) are taken by files that sort did not make; these photos are in no folder"),
        (result.changes.left, "file(s) were changed since, or are the last copy of a photo, and stay"),
    ):
        if names:
            output.warn(f"{len(names)} {text}: {join_names(names, 3)}")
    if result.not_predicted:
        output.warn(
            f"{result.not_predicted} photo(s) of the label file are not in this run: unreadable, or added since"
        )
