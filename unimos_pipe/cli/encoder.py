"""``unimos-pipe encoder``: the encoders known by name."""

import click

from unimos_pipe.base.console import Output
from unimos_pipe.base.encoders import PRESETS


@click.group()
def encoder() -> None:
    """List the encoders that are known by name."""


@encoder.command("ls")
@click.pass_obj
def ls(output: Output) -> None:
    """List the encoders: model and tag in open_clip, image size, D, licence, and whether the weights are at hand.

    Nothing is loaded or downloaded. Weights of your own, and every other model of open_clip: --model and --pretrained.
    """
    from unimos_pipe.extract.hub import HubWeights, at_hand

    rows = [
        (
            name,
            preset.spec.model,
            preset.spec.pretrained,
            str(preset.size),
            str(preset.dim),
            preset.licence,
            "yes" if preset.hub is None or at_hand(HubWeights(preset.hub)) else "no",
        )
        for name, preset in PRESETS.items()
    ]
    output.table("encoders", ("name", "model", "weights", "pixels", "D", "licence", "at hand"), rows)
