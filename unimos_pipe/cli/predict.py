"""``unimos-pipe predict``: a finished run applied to new images, or to a cached domain."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

import unimos_pipe
from unimos_pipe.base.errors import InputError
from unimos_pipe.base.safe_open import MAX_ARRAY_BYTES, read_bytes
from unimos_pipe.base.terminal import Output, format_percent
from unimos_pipe.cli import completion
from unimos_pipe.cli.click_classes import Command
from unimos_pipe.cli.json_output import json_options, print_json
from unimos_pipe.cli.next_command import is_run, suggest_next
from unimos_pipe.cli.options import device_option, folder_option, max_pixels_option, option_group, trust_option
from unimos_pipe.runs.statistics import describe_labelled_rows

STDOUT = "-"


def _predict_options(
    top: int,
    batch_size: int,
    workers: int,
    max_pixels: int,
    weights: Path | None,
    allow_torchscript: bool,
    allow_edited: bool,
) -> "unimos_pipe.PredictOptions":
    return unimos_pipe.PredictOptions(
        top=top,
        batch_size=batch_size,
        workers=workers,
        max_pixels=max_pixels,
        weights=weights,
        allow_torchscript=allow_torchscript,
        allow_edited=allow_edited,
    )


predict_options = option_group(
    "options",
    _predict_options,
    click.option(
        "--top",
        type=click.IntRange(1),
        default=1,
        is_flag=False,
        flag_value=5,
        metavar="[N]",
        help="Write the N likeliest classes; 5 without a number.",
    ),
    click.option(
        "--pretrained",
        "weights",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Weights file of the encoder, if it was loaded from one.",
    ),
    trust_option,
    click.option("--allow-edited", is_flag=True, help="Load also an export that was changed since it was made."),
    click.option(
        "--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Images per encoder call."
    ),
    click.option(
        "--workers", type=click.IntRange(0, 1024), default=2, show_default=True, help="Processes that decode images."
    ),
    max_pixels_option,
)


@click.command(cls=Command)
@click.option(
    "--run",
    "run_folder",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A finished run, or an export.",
)
@click.option(
    "--images", type=click.Path(path_type=Path), metavar="DIR|FILE...", help="Images to classify, and folders of them."
)
@click.argument("more", nargs=-1, type=click.Path(path_type=Path), metavar="[DIR|FILE]...")
@click.option(
    "--domain",
    metavar="NAME",
    shell_complete=completion.domains,
    help="Classify a domain's cached features instead; needs no images or weights.",
)
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.csv",
    help="File for predictions; - is stdout.",
)
@predict_options
@click.option(
    "--dataset",
    metavar="NAME|FILE.toml",
    shell_complete=completion.datasets,
    help="With --domain: the data set's spec, if it is your own.",
)
@folder_option(
    "--cache",
    help="With --domain: where features are. Default: $UNIMOS_CACHE, else the user's cache folder.",
)
@device_option
@json_options
@click.pass_obj
def predict(
    output: Output,
    run_folder: Path,
    images: Path | None,
    more: tuple[Path, ...],
    domain: str | None,
    out: Path,
    options: "unimos_pipe.PredictOptions",
    dataset: str | None,
    cache: Path | None,
    device: str,
) -> None:
    """Classify new images with a finished run; writes a CSV file.

    The CSV has one row per image, in order.

    \b
    Examples:
      unimos-pipe predict --run runs/.../seed0 --images photos/ -o answers.csv
      unimos-pipe predict --run runs/.../seed0 --images a.jpg b.jpg --top 3 -o answers.csv
      unimos-pipe predict --run runs/.../seed0 --domain sketch -o answers.csv
    """
    sources = [*([images] if images else []), *more]
    if bool(sources) == bool(domain):
        raise InputError("say what to classify: --images DIR|FILE... or --domain NAME (one of the two)")
    if output.as_document and str(out) == STDOUT:
        raise InputError("--json and -o - both write to stdout; name a file for the predictions")
    show = output.note if str(out) == STDOUT else output.result
    with _table(out) as table:
        if domain:
            result = unimos_pipe.predict_cached(
                run_folder,
                domain,
                table,
                dataset=dataset,
                cache=cache,
                top=options.top,
                device=device,
                allow_edited=options.allow_edited,
                reporter=output,
            )
        else:
            result = unimos_pipe.predict(run_folder, sources, table, options, device=device, reporter=output)
    print_json(output, result)
    if domain:
        accuracy = ""
        if result.labelled:
            share = describe_labelled_rows(result.accuracy, result.labelled, result.rows)
            accuracy = f"; accuracy {format_percent(result.accuracy)} on {share}"
        show(f"{out}: {result.rows} rows of {result.name}{accuracy}")
    else:
        for name, reason in result.unreadable:
            output.warn(f"cannot read {name}: {reason}")
        show(f"{out}: {result.rows - len(result.unreadable)} of {result.rows} images classified")
    if is_run(run_folder):
        suggest_next(output, "export", "--run", run_folder, "--out", "model")


@contextlib.contextmanager
def _table(out: Path) -> Iterator[Path]:
    """Yield the file for predictions: ``out``, or a temporary one copied to stdout at the end."""
    if str(out) != STDOUT:
        yield out
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "answers.csv"
        click.echo(read_bytes(Path(folder) / "answers.csv", MAX_ARRAY_BYTES), nl=False)
