"""``unimos-pipe bench methods``: every method on labelled features of one's own."""

from pathlib import Path

import click

import unimos_pipe
from unimos_pipe.base.terminal import Output, format_percent
from unimos_pipe.cli.click_classes import Command, SuggestingChoice
from unimos_pipe.cli.json_output import json_options, print_json
from unimos_pipe.cli.next_command import suggest_next
from unimos_pipe.runs.method_names import METHODS, OTHER_METHODS

VARIANTS = (
    "closed", "partial", "long-tailed", "few-source-2", "few-source-5", "few-source-10", "few-target-2", "few-target-5",
    "few-target-10",
)  # fmt: skip
ACCURACY_COLUMNS = ("method", "accuracy", "regret", "worst", "worst gain", "losses", "s")
ESTIMATE_COLUMNS = ("method", "estimate off", "estimated", "covered", "ECE", "matched ECE")


@click.command("methods", cls=Command)
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="FEATURES...")
@click.option(
    "--method", "methods", type=SuggestingChoice(METHODS), multiple=True, help="Repeatable. Default: all but unimos."
)
@click.option(
    "--variant", "variants", type=SuggestingChoice(VARIANTS), multiple=True, help="Repeatable. Default: all nine."
)
@click.option(
    "--pair",
    "pairs",
    multiple=True,
    metavar="SRC->TGT",
    help="Repeatable. A file that has any of them gives only these.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="Also write every result; continues an interrupted FILE.csv.",
)
@json_options
@click.pass_obj
def bench_methods(
    output: Output,
    paths: tuple[Path, ...],
    methods: tuple[str, ...],
    variants: tuple[str, ...],
    pairs: tuple[str, ...],
    out: Path | None,
) -> None:
    """Compare every method on labelled features and their variants.

    FEATURES are .npz files or folders that cache export made. Target labels score; no method sees them.

    A variant has fewer rows, drawn by a fixed seed: every third class in the target (partial), target rows by 1 / rank
    of the class (long-tailed), 2, 5 or 10 rows a class of source or target. Figures are in %, means over data sets.
    Regret is the distance to the best method by target labels, gain that to zero-shot; losses are pairs more than 1
    point below zero-shot.

    \b
    Examples:
      unimos-pipe bench methods icons-features --variant closed --method zero-shot --method auto
      unimos-pipe bench methods mine.npz office.npz --out methods.csv
    """
    bench = unimos_pipe.bench_methods(
        paths, methods or OTHER_METHODS, variants or VARIANTS, pairs, out, reporter=output
    )
    print_json(output, bench)
    for variant, summaries in bench.summaries().items():
        pairs = f"{summaries[0].pairs} pairs"
        output.table(f"{variant}: {pairs}", ACCURACY_COLUMNS, [_accuracy_row(summary) for summary in summaries])
        title = f"{variant}: estimates and calibration"
        output.table(title, ESTIMATE_COLUMNS, [_estimate_row(summary) for summary in summaries])
    suggest_next(output, "adapt", "--method", "auto")


def _accuracy_row(summary: "unimos_pipe.MethodSummary") -> list[str]:
    values = summary.accuracy, summary.regret, summary.worst_regret, summary.worst_gain
    return [summary.method, *map(_text, values), str(summary.losses), f"{summary.seconds:.2f}"]


def _estimate_row(summary: "unimos_pipe.MethodSummary") -> list[str]:
    values = summary.estimate_error, summary.estimated, summary.covered, summary.ece, summary.ece_matched
    return [summary.method, *map(_text, values)]


def _text(value: float | None) -> str:
    return "-" if value is None else format_percent(value)
