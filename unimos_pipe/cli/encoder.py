"""``unimos-pipe encoder``: the encoder presets."""

import click

import unimos_pipe
from unimos_pipe.base.encoder_presets import encoder_names
from unimos_pipe.base.terminal import Output
from unimos_pipe.cli.click_classes import Group
from unimos_pipe.cli.json_output import json_options, print_json
from unimos_pipe.cli.next_command import suggest_next


@click.group(cls=Group)
def encoder() -> None:
    """List the encoder presets."""


@encoder.command("ls")
@json_options
@click.pass_obj
def ls(output: Output) -> None:
    """List image size, D, licence, and whether weights are here.

    -v adds open_clip's model and tag. Nothing is loaded or downloaded. For other models of open_clip or your own
    weights use --model and --pretrained.
    """
    listings = unimos_pipe.list_encoders()
    outside = encoder_names()[len(listings) :]
    encoders = [
        {"name": name, **vars(one.preset), **vars(one.preset.spec), "cached": one.cached}
        for name, one in listings.items()
    ]
    print_json(output, {"encoders": encoders, "outside": outside})
    rows = [
        (
            name,
            *((listing.preset.spec.model, listing.preset.spec.pretrained) if output.verbosity > 0 else ()),
            str(listing.preset.image_size),
            str(listing.preset.dim),
            listing.preset.licence,
            "yes" if listing.cached else "no",
        )
        for name, listing in listings.items()
    ]
    models = ("model", "weights") if output.verbosity > 0 else ()
    output.table("encoders", ("name", *models, "pixels", "D", "licence", "cached"), rows)
    if outside:
        output.result(f"from outside the package: {', '.join(outside)}")
    suggest_next(output, "extract", "--encoder", "NAME", "--all", "--data-root", "ROOT")
