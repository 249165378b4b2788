"""``unimos-pipe review``: label a run's photos in a browser."""

import webbrowser
from pathlib import Path

import click

import unimos_pipe
from unimos_pipe.base.terminal import Output, format_percent
from unimos_pipe.cli.adapt import run_summary
from unimos_pipe.cli.click_classes import Command
from unimos_pipe.cli.compose_commands import command_line
from unimos_pipe.cli.next_command import suggest_next
from unimos_pipe.cli.options import folder_option


@click.command(cls=Command)
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port; 0 takes a free one.")
@click.option("--open", "open_browser", is_flag=True, help="Open the page in a browser.")
@folder_option("--data-root", help="Folder of the photos. Default: the one that the data set's spec names.")
@folder_option("--cache", help="Where thumbnails go. Default: $UNIMOS_CACHE, otherwise the user's cache folder.")
@click.pass_obj
def review(
    output: Output, run: Path, port: int, open_browser: bool, data_root: Path | None, cache: Path | None
) -> None:
    """Review predictions and label photos in a browser.

    \b
    Prints the address of a page on this machine. Example:
      unimos-pipe review phone-run

    The least sure photos come first, or those that label next chose. Keys: Enter accepts, 1 to 9 and C choose another
    class, U is unknown, S skips, Z undoes. Every decision is in the label file at once. Ctrl-C ends the review, and so
    does the page's button, which then adapts again with the labels. Needs the extra serve.
    """

    def show_address(address: str) -> None:
        output.result(address)
        output.note("  decisions are saved at once; Ctrl-C ends the review")
        if open_browser:
            webbrowser.open(address)

    result = unimos_pipe.review_photos(
        run, root=data_root, cache=cache, port=port, format_call=command_line, on_ready=show_address
    )
    scores = result.scores
    output.result(
        f"{result.labels}: {scores.labelled} of {scores.photos} photos labelled, {result.decisions} in this session"
    )
    if scores.accuracy is not None:
        low, high = format_percent(scores.low), format_percent(scores.high)
        interval = (
            f"95% interval {low} to {high}" if scores.like_random else "no random choice, so not that of all photos"
        )
        output.result(f"  predictions are right for {format_percent(scores.accuracy)}% of them, {interval}")
    if result.finished:
        again = unimos_pipe.adapt_again(run, cache=cache, reporter=output)
        output.result(run_summary(again.spec, again.result))
        suggest_next(output, "review", run)
    else:
        for call in result.calls if result.decisions else ():
            output.suggest_command(command_line(call))
