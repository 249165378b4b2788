"""``unimos-pipe export``: a finished run as a model to take away."""

from pathlib import Path

import click

import unimos_pipe
from unimos_pipe.base.terminal import Output
from unimos_pipe.cli.click_classes import Command
from unimos_pipe.cli.next_command import suggest_next


@click.command(cls=Command)
@click.option(
    "--run", "run_folder", required=True, type=click.Path(path_type=Path), metavar="DIR", help="A finished run."
)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder to write.")
@click.option("--onnx", is_flag=True, help="Also write heads.onnx: CLIP image features to probabilities.")
@click.option(
    "--with-encoder",
    type=click.Path(path_type=Path),
    metavar="DIR|FILE",
    help="With --onnx: also write model.onnx, image encoder included, checked on up to 16 of these images.",
)
@click.option("--force", is_flag=True, help="Replace an earlier export even if its README.md was edited.")
@click.pass_obj
def export(output: Output, run_folder: Path, out: Path, onnx: bool, with_encoder: Path | None, force: bool) -> None:
    """Write a run as safetensors, JSON and a card, as model hubs do.

    An earlier export in DIR is replaced once the new one is whole; a folder with anything else in it is refused.

    \b
    Examples:
      unimos-pipe export --run runs/.../seed0 --out model/
      unimos-pipe export --run runs/.../seed0 --out model/ --onnx --with-encoder photos/
    In Python: unimos_pipe.load("model").predict(["photo.jpg"]).labels
    """
    images = [with_encoder] if with_encoder else []
    differences = unimos_pipe.export_run(run_folder, out, onnx=onnx, images=images, force=force)
    for name, difference in differences.items():
        output.note(f"{name}: probabilities of onnxruntime differ by at most {difference:.1e}")
    output.result(f"{out}: a model to load with unimos_pipe.load({str(out)!r})")
    suggest_next(output, "predict", "--run", out, "--images", "DIR", "-o", "answers.csv")
