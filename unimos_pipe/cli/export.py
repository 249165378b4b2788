"""``unimos-pipe export``: a finished run as a model to take away."""

import importlib.util
from pathlib import Path

import click

from unimos_pipe.base.console import Output
from unimos_pipe.base.errors import UserError
from unimos_pipe.base.files import writable_folder


@click.command()
@click.option(
    "--run", "run_folder", required=True, type=click.Path(path_type=Path), metavar="DIR", help="A finished run."
)
@click.option("--to", required=True, type=click.Path(path_type=Path), metavar="DIR", help="The folder to make.")
@click.option("--onnx", is_flag=True, help="Also write heads.onnx: CLIP image features to probabilities.")
@click.option(
    "--with-encoder",
    type=click.Path(path_type=Path),
    metavar="DIR|FILE",
    help="With --onnx: also write model.onnx, image encoder included, checked on up to 16 of these images.",
)
@click.option("--force", is_flag=True, help="Replace an earlier export even if its README.md was edited.")
@click.pass_obj
def export(output: Output, run_folder: Path, to: Path, onnx: bool, with_encoder: Path | None, force: bool) -> None:
    """Write a run as safetensors, JSON and a README card, in a model hub's layout.

    An earlier export in DIR is replaced once the new one is whole; a folder with anything else in it is refused.

    \b
    Examples:
      unimos-pipe export --run runs/.../seed0 --to model/
      unimos-pipe export --run runs/.../seed0 --to model/ --onnx --with-encoder photos/
    In Python: unimos_pipe.load("model").predict(["photo.jpg"]).labels
    """
    if with_encoder and not onnx:
        raise UserError("--with-encoder needs --onnx")
    needs = ("onnx", "onnxruntime", "onnxscript") if onnx else ()
    if missing := [name for name in needs if importlib.util.find_spec(name) is None]:
        raise UserError(f"--onnx needs {', '.join(missing)}", todo="Install it with: pip install 'unimos-pipe[onnx]'")
    writable_folder(to.parent, "--to")

    from unimos_pipe.deploy.export import export_run
    from unimos_pipe.deploy.predict import list_images

    images = list_images([with_encoder])[0] if with_encoder else None
    differences = export_run(run_folder, to, onnx=onnx, images=images, force=force)
    for name, difference in differences.items():
        output.note(f"{name}: onnxruntime's probabilities are ours within {difference:.1e}")
    output.result(f"{to}: a model to load with unimos_pipe.load({str(to)!r})")
