"""Report folder: one self-contained HTML page, tables and figures. Needs no torch and no network."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from unimos_pipe import __version__
from unimos_pipe.base.atomic_io import OwnedFolder, atomic_replace_dir, check_owned_folder, write_text
from unimos_pipe.base.errors import Call, InputError, ReadError
from unimos_pipe.base.locks import writer_lock
from unimos_pipe.base.safe_open import MAX_ARRAY_BYTES, open_regular
from unimos_pipe.cache.cache_paths import default_cache
from unimos_pipe.cache.encoder_identity import slug
from unimos_pipe.report.experiment import Experiment
from unimos_pipe.report.figures import COLOURS
from unimos_pipe.report.reproduce import has_recipe, recipe_toml, reproduce_calls
from unimos_pipe.report.runs_csv import write_runs_csv
from unimos_pipe.report.section import SectionBuilder
from unimos_pipe.report.sweeps_table import sweeps_table
from unimos_pipe.report.table import correct_tests
from unimos_pipe.report.table_writers import write_table

PAGE = "report.html"


def _is_report(folder: Path) -> bool:
    try:
        with open_regular(folder / PAGE, MAX_ARRAY_BYTES) as file:
            return b"<title>UniMoS: " in file.read(2000)
    except ReadError as error:
        if not error.absent:
            raise
        return False


FORMS = {"tables": ("md", "csv", "tex", "json"), "figures": ("png", "svg", "pdf"), "recipes": ("toml",)}
FILES = (PAGE, *(f"{folder}/*.{form}" for folder, forms in FORMS.items() for form in forms))
REPORT = OwnedFolder("a report", FILES, _is_report)


def write_page(
    experiments: Sequence[Experiment],
    skipped: Sequence[str],
    out: Path,
    *,
    call: Call,
    format_call: Callable[[Call], str],
    cache: Path | None,
    pair: str | None = None,
    data_root: Path | None = None,
    on_step: Callable[[int], None] = lambda steps: None,
) -> None:
    """Write ``report.html``, ``tables/``, ``figures/`` and ``recipes/`` to the folder ``out``.

    An earlier report is replaced atomically once the new one is complete.

    Args:
        experiments, skipped: from :func:`unimos_pipe.report.find_runs.find_runs`.
        call: call that reproduces this report, for the page.
        format_call: how the page shows calls.
        cache: where embedded images are unpacked; None takes the default one.
        pair: ``source->target`` that figures show; None takes the one with the largest gain.
        data_root: folder of images, for thumbnails; embedded data sets need none.
        on_step: called with the number of finished steps, of :data:`unimos_pipe.report.section.STEPS` an experiment.
    Raises:
        InputError: no run of the pair, damaged files, or ``out`` holds something other than a report.
    """
    with writer_lock(out):
        check_owned_folder(out, REPORT, "out")
        with atomic_replace_dir(out) as folder:
            names = _file_names(experiments)
            sections = []
            for name, experiment, shown_pair in zip(names, experiments, _choose_pairs(experiments, pair), strict=True):
                builder = SectionBuilder(experiment, folder, name if len(names) > 1 else "", shown_pair, on_step)
                section = builder.build(data_root, cache or default_cache())
                calls = [*_reproduce(experiment, folder, out, name, cache), call]
                section.commands = [line if isinstance(line, str) else format_call(line) for line in calls]
                sections.append(section)
            write_runs_csv(experiments, folder / "tables")
            sweeps = correct_tests(sweeps_table(experiments)) if len(experiments) > 1 else None
            if sweeps:
                write_table(folder / "tables", "sweeps", sweeps)
            _write_html(folder / PAGE, {"sections": sections, "sweeps": sweeps, "skipped": skipped})


def _file_names(experiments: Sequence[Experiment]) -> list[str]:
    """Return a unique file prefix for each experiment: name of the recipe, else of the data set, with a number."""
    base_names = [slug(str(experiment.recipe.get("name") or experiment.dataset)) for experiment in experiments]
    counts: Counter[str] = Counter()
    names = []
    for name in base_names:
        counts[name] += 1
        names.append(f"{name}-{counts[name]}" if base_names.count(name) > 1 else name)
    return names


def _choose_pairs(experiments: Sequence[Experiment], pair: str | None) -> list[str]:
    """Return the pair that each experiment's figures show; ``pair`` must exist in at least one experiment."""
    errors, pairs = [], []
    for experiment in experiments:
        try:
            pairs.append(experiment.choose_pair(pair))
        except InputError as error:
            errors.append(error)
            pairs.append(experiment.choose_pair(None))
    if len(errors) == len(experiments):
        raise errors[0]
    return pairs


def _reproduce(experiment: Experiment, folder: Path, out: Path, name: str, cache: Path | None) -> list[str | Call]:
    """Write the recipe to the report and return the calls that reproduce the runs."""
    file = Path("recipes", f"{name}.toml")
    if has_recipe(experiment):
        write_text(folder / file, recipe_toml(experiment.recipe))
    return reproduce_calls(experiment, out / file, cache)


def _write_html(file: Path, values: Mapping[str, Any]) -> None:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(**values, version=__version__, colours=COLOURS)
    text = page.encode("utf-8", "backslashreplace").decode()  # file names may hold bytes that are not UTF-8
    write_text(file, text)
