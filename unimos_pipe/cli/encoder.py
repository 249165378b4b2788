"""``unimos-pipe encoder``: the encoders known by name."""

import click

import unimos_pipe
from unimos_pipe.base.terminal import Output
from unimos_pipe.cli.click_classes import Group
from unimos_pipe.cli.next_command import suggest_next


@click.group(cls=Group)
def encoder() -> None:
    """List the encoders that are known by name."""


@encoder.command("ls")
@click.pass_obj
def ls(output: Output) -> None:
    """List model, tag, image size, D, licence, and whether weights are here.

    Nothing is loaded or downloaded. Weights of your own, and every other model of open_clip: --model and --pretrained.
    """
    rows = [
        (
            name,
            known.preset.spec.model,
            known.preset.spec.pretrained,
            str(known.preset.image_size),
            str(known.preset.dim),
            known.preset.licence,
            "yes" if known.cached else "no",
        )
        for name, known in unimos_pipe.list_encoders().items()
    ]
    output.table("encoders", ("name", "model", "weights", "pixels", "D", "licence", "at hand"), rows)
    suggest_next(output, "extract", "--encoder", "NAME", "--all", "--data-root", "ROOT")
