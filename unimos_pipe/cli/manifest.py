"""``unimos-pipe manifest``: custom data sets, and checks of any data set."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

import unimos_pipe
from unimos_pipe.base.encoder_presets import ENCODERS
from unimos_pipe.base.errors import ExecutionError, InputError, join_names
from unimos_pipe.base.terminal import Output
from unimos_pipe.cache.cache_paths import default_cache
from unimos_pipe.cli import completion
from unimos_pipe.cli.click_classes import FolderPath, Group, SuggestingChoice
from unimos_pipe.cli.compose_commands import join_command
from unimos_pipe.cli.json_output import json_options, print_json
from unimos_pipe.cli.next_command import suggest_next
from unimos_pipe.cli.options import domains_option, max_pixels_option
from unimos_pipe.data.expected_layout import expected_layout

if TYPE_CHECKING:
    from unimos_pipe.data.update_dataset import DomainUpdate

keep_folder_option = click.option(
    "--keep-folder",
    "keep_folders",
    multiple=True,
    metavar="NAME",
    help="A class folder that is a class, though its name, such as misc, or lack of images suggests otherwise; "
    "repeatable.",
)
skip_folder_option = click.option(
    "--skip-folder", "skip_folders", multiple=True, metavar="NAME", help="A class folder to leave out; repeatable."
)


@click.group(cls=Group)
def manifest() -> None:
    """List known data sets; describe and check your own images."""


@manifest.command("ls")
@json_options
@click.pass_obj
def list_known(output: Output) -> None:
    """List the data sets that come with unimos-pipe."""
    specs = unimos_pipe.list_datasets()
    print_json(output, {"datasets": specs.values()})
    output.table(
        "Data sets",
        ["name", "classes", "domains", "protocol", "encoder"],
        [
            [name, str(len(spec.classes)), str(len(spec.domains)), spec.protocol(), spec.encoder]
            for name, spec in specs.items()
        ],
    )
    suggest_next(output, "manifest", "show", "NAME")


@manifest.command()
@click.argument("dataset", metavar="NAME|FILE.toml", shell_complete=completion.datasets)
@json_options
@click.pass_obj
def show(output: Output, dataset: str) -> None:
    """Show a data set's origin, terms and folder layout."""
    spec = unimos_pipe.load_spec(dataset)
    print_json(output, {"dataset": spec, "layout": None if spec.embedded else expected_layout(spec)})
    for label, text in (
        ("title", spec.title or spec.name),
        ("get it from", spec.source),
        ("terms", spec.terms),
        ("layout", "" if spec.embedded else expected_layout(spec)),
        ("prompt words", ", ".join(f"{name}: {domain.word}" for name, domain in spec.domains.items())),
        ("classes, in label order", ", ".join(spec.classes)),
    ):
        if text:
            output.result(f"{label}: {text}")
    suggest_next(output, "extract", "--dataset", dataset, "--all", *([] if spec.embedded else ["--data-root", "ROOT"]))


@manifest.command()
@click.option(
    "--domain",
    "domains",
    multiple=True,
    required=True,
    metavar="NAME=DIR[:LABELS]",
    help="A domain's images; repeatable, also for further folders of a domain. LABELS: folders (default), none, or a "
    "CSV file of path and class in DIR.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, metavar="FILE.toml", help="Spec to write.")
@click.option("--name", metavar="NAME", help="The data set's name.  [default: the file's]")
@click.option(
    "--encoder", type=SuggestingChoice(list(ENCODERS)), default="RN50", show_default=True, help="Its encoder."
)
@click.option("--force", is_flag=True, help="Replace the files of an earlier scan that were not edited; no others.")
@click.option(
    "--allow-outside", is_flag=True, help="A CSV may list images outside its folder, by their absolute paths."
)
@keep_folder_option
@skip_folder_option
@click.pass_obj
def scan(
    output: Output,
    domains: tuple[str, ...],
    out: Path,
    name: str | None,
    encoder: str,
    force: bool,
    allow_outside: bool,
    keep_folders: tuple[str, ...],
    skip_folders: tuple[str, ...],
) -> None:
    """Describe folders of your own images as a data set.

    It becomes a TOML spec, and a CSV of paths and classes per domain.

    Every file is counted: images by suffix or, where that says nothing, by their first bytes; HEIC and AVIF, too.
    What is left out (hidden files, videos, broken links, ...) is counted in a warning.

    \b
    Example, a labelled source and a folder of photos without labels:
      unimos-pipe manifest scan --domain product=shop:folders --domain phone=DCIM:none -o my.toml
      unimos-pipe extract --dataset my.toml --all
      unimos-pipe adapt --dataset my.toml --src product --tgt phone --out phone-run
    """
    spec = unimos_pipe.create_dataset_spec(
        domains,
        out,
        name=name,
        encoder=encoder,
        force=force,
        keep_folders=keep_folders,
        skip_folders=skip_folders,
        allow_outside=allow_outside,
        reporter=output,
    )
    rows = ", ".join(f"{key}: {domain.images}" for key, domain in spec.domains.items())
    output.result(f"{out}: {len(spec.classes)} classes ({join_names(spec.classes, 6)}); images: {rows}")
    output.note(f"  read it through, then: {join_command('extract', '--dataset', out, '--all')}")


@manifest.command()
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.toml")
@keep_folder_option
@skip_folder_option
@click.pass_obj
def update(output: Output, file: Path, keep_folders: tuple[str, ...], skip_folders: tuple[str, ...]) -> None:
    """Take new, moved and deleted images into your data set.

    Changed images, too. Images are recognised by their contents. Labels, class order, wordings and comments are kept;
    a new class folder becomes a class at the end. The files as they were are kept in a backup folder beside them.
    """
    result = unimos_pipe.update_dataset_spec(file, keep_folders=keep_folders, skip_folders=skip_folders)
    for note in result.notes:
        output.warn(note)
    for domain in result.domains:
        for line in describe_update(domain):
            output.result(line)
    if result.new_classes:
        output.result(f"new classes, at the end: {join_names(result.new_classes)}")
    if result.empty_classes:
        output.warn(
            f"classes without an image: {join_names(result.empty_classes)}; take them out of {file} if so meant"
        )
    if result.backup is None:
        output.result(f"{file}: nothing has changed")
        return
    output.note(f"the files as they were: {result.backup}")
    suggest_next(output, "extract", "--dataset", file, "--all")


@manifest.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SOURCE...")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="New folder.")
@click.option("--image-column", metavar="NAME", help="A table's column of images, if the data set does not tell it.")
@click.option("--label-column", metavar="NAME", help="A table's column of labels, if the data set does not tell it.")
@click.pass_obj
def unpack(
    output: Output, sources: tuple[Path, ...], out: Path, image_column: str | None, label_column: str | None
) -> None:
    """Unpack images of tar, Parquet and Arrow files to a folder.

    SOURCE is a WebDataset shard (.tar), a Parquet file with image bytes, a folder of these, or a Hugging Face data set
    saved to disk. The images' bytes stay as they are; labels are written to labels.csv in the folder.
    """
    result = unimos_pipe.unpack_images(
        sources, out, image_column=image_column, label_column=label_column, reporter=output
    )
    output.result(f"{out}: {result.images} images, {result.labelled} with a label")
    labels = "labels.csv" if result.labelled else "none"
    output.note(f"  then: {join_command('manifest', 'scan', '--domain', f'NAME={out}:{labels}', '-o', 'FILE.toml')}")


def describe_update(domain: "DomainUpdate") -> list[str]:
    """Return the lines about a domain's changes: the counts, then some examples of each kind."""
    examples = {
        "new": domain.added,
        "moved": [f"{old} -> {new}" for old, new in domain.moved],
        "in another class now": [f"{path} ({old or 'no class'} -> {new})" for path, old, new in domain.relabelled],
        "of new contents, labels kept": domain.changed,
        "gone": [f"{row.path} ({row.label})" if row.label else row.path for row in domain.removed],
    }
    counts = ", ".join(f"{len(names)} {kind}" for kind, names in examples.items() if names) or "no change"
    head = f"{domain.domain}: {counts}; {domain.images} images, {domain.labelled} with a label"
    return [head, *(f"  {kind}: {join_names(names, 3)}" for kind, names in examples.items() if names)]


@manifest.command()
@click.argument("dataset", metavar="NAME|FILE.toml", shell_complete=completion.datasets)
@click.option(
    "--data-root",
    type=FolderPath(path_type=Path),
    envvar="UNIMOS_DATA_ROOT",
    show_envvar=True,
    metavar="DIR",
    help="Folder that holds the domains' folders, or the data set's.",
)
@click.option("--cache", type=click.Path(path_type=Path), metavar="DIR", help="Where embedded images are unpacked.")
@domains_option("Domain to check; repeatable. Default: all.")
@click.option(
    "--features", is_flag=True, help="Also list images whose cached features are equal or nearly equal; needs extract."
)
@click.option(
    "--run",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="With --features: a finished run, to be scored with and without the target's images that its source has.",
)
@click.option(
    "--encoder-id", metavar="ID", help="With --features: the encoder's folder in the cache, if it has several."
)
@max_pixels_option
@click.option("--max-examples", type=click.IntRange(1), default=5, show_default=True, help="Files to name per finding.")
@json_options
@click.pass_obj
def check(
    output: Output,
    dataset: str,
    data_root: Path | None,
    cache: Path | None,
    domains: tuple[str, ...],
    features: bool,
    run: Path | None,
    encoder_id: str | None,
    max_pixels: int,
    max_examples: int,
) -> None:
    """Look at every image of a data set and report what is wrong.

    Finds missing and unreadable files, images without contrast, names that are not UTF-8, images of equal contents or
    not in the manifest, classes that have no image or are absent in a domain, counts that differ from the published
    ones, and counts what is left out. Exit code 1 where extract would fail.
    """
    if (run or encoder_id) and not features:
        raise InputError("--run and --encoder-id need --features")
    cache = cache or default_cache()
    result = unimos_pipe.check_dataset(
        dataset, data_root, cache, domains=domains, max_pixels=max_pixels, reporter=output
    )
    scores = None
    if features:
        chosen = unimos_pipe.feature_set(dataset, cache=cache, encoder_id=encoder_id)
        duplicates = unimos_pipe.find_duplicates(chosen, run=run)
        result = replace(result, findings=(*result.findings, *duplicates.findings()))
        scores = duplicates.scores
    print_json(output, result)
    name = result.dataset.name
    for finding in result.findings:
        places = join_names((place.encode(errors="replace").decode() for place in finding.places), max_examples)
        output.result(f"{'error' if finding.serious else 'notice'}: {finding.kind}, {len(finding.places)}: {places}")
    if scores:
        output.result(str(scores))
    if result.faults:
        raise ExecutionError(f"{result.faults} fault(s) in {result.rows} rows of {name}; fix them, then check again")
    output.result(result.verdict)
    chosen_domains = [word for domain in domains for word in ("--domain", domain)] or ["--all"]
    suggest_next(output, "extract", "--dataset", dataset, *chosen_domains)
