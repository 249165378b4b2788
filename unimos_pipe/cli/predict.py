"""``unimos-pipe predict``: a finished run applied to new images, or to a cached domain."""

from pathlib import Path

import click

from unimos_pipe.base.console import Output
from unimos_pipe.base.errors import RunError, UserError
from unimos_pipe.cache.layout import default_cache
from unimos_pipe.cli.options import device_option, folder_option, trust_option
from unimos_pipe.data.manifest import load_spec


@click.command()
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
    "--domain", metavar="NAME", help="Classify a domain's cached features instead; needs no images or weights."
)
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), metavar="FILE.csv", help="Where answers go."
)
@click.option(
    "--top",
    type=click.IntRange(1),
    default=1,
    is_flag=False,
    flag_value=5,
    metavar="[N]",
    help="Also the next likeliest classes, N in all; 5 without a number.",
)
@click.option(
    "--weights", type=click.Path(path_type=Path), metavar="FILE", help="The encoder's weights, if they were a file."
)
@trust_option
@click.option("--dataset", metavar="NAME|FILE.toml", help="With --domain: the data set's spec, if it is your own.")
@folder_option(
    "--cache",
    help="With --domain: where features are. Default: $UNIMOS_CACHE, else the user's cache folder.",
)
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Images per encoder call.")
@click.option("--workers", type=click.IntRange(0), default=2, show_default=True, help="Processes that decode images.")
@device_option
@click.pass_obj
def predict(
    output: Output,
    run_folder: Path,
    images: Path | None,
    more: tuple[Path, ...],
    domain: str | None,
    out: Path,
    top: int,
    weights: Path | None,
    trust_weights: bool,
    dataset: str | None,
    cache: Path | None,
    batch_size: int,
    workers: int,
    device: str,
) -> None:
    """Classify new images with a finished run; answers as CSV, in the images' order.

    \b
    Examples:
      unimos-pipe predict --run runs/.../seed0 --images photos/ -o answers.csv
      unimos-pipe predict --run runs/.../seed0 --images a.jpg b.jpg --top 3 -o answers.csv
      unimos-pipe predict --run runs/.../seed0 --domain sketch -o answers.csv
    """
    sources = [*([images] if images else []), *more]
    if bool(sources) == bool(domain):
        raise UserError("say what to classify: --images DIR|FILE... or --domain NAME (one of the two)")

    from unimos_pipe.cache.store import FeatureStore
    from unimos_pipe.deploy.model import load
    from unimos_pipe.deploy.predict import list_images, predict_domain, predict_images

    if domain:
        model = load(run_folder, device)
        spec = load_spec(dataset or model.settings["about"]["dataset"])
        folder = (cache or default_cache()) / spec.name / model.settings["encoder_id"]
        store = FeatureStore(spec, folder, f"unimos-pipe extract --dataset {dataset or spec.name}")
        rows = predict_domain(model, store, domain, out, top=top)
        output.result(f"{out}: {rows} rows of {spec.name}/{domain}")
        return
    files, names = list_images(sources)
    model = load(run_folder, device)
    model.encoder(weights, trust=trust_weights)
    with output.progress("predict", len(files), "images") as advance:
        unreadable = predict_images(
            model, files, names, out, top=top, batch_size=batch_size, workers=workers, on_rows=advance
        )
    for name, reason in unreadable:
        output.warn(f"cannot read {name}: {reason}")
    output.result(f"{out}: {len(files) - len(unreadable)} of {len(files)} images classified")
    if len(unreadable) == len(files):
        raise RunError("no image could be read")
