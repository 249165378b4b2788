"""Finished runs as one self-contained HTML page, the same tables as files, and figures. Needs no torch, no network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jinja2

from unimos_pipe import __version__
from unimos_pipe.base.files import FolderKind, refuse_foreign_folder, replace_folder, write_text
from unimos_pipe.base.locks import sole_writer
from unimos_pipe.cache.identity import slug
from unimos_pipe.report import figures as report_figures
from unimos_pipe.report.forms import to_csv, to_latex, to_markdown
from unimos_pipe.report.gap import bottleneck_map, gap_table, map_classes, modality_map
from unimos_pipe.report.grid import grid_table, sensitivity
from unimos_pipe.report.known import known_table
from unimos_pipe.report.methods import method_table
from unimos_pipe.report.mistakes import (
    Disagreement,
    Tally,
    class_changes,
    disagreements,
    image_folder,
    thumbnail,
    worst_confusions,
)
from unimos_pipe.report.origin import origin
from unimos_pipe.report.printed import published
from unimos_pipe.report.runs import Experiment, Run
from unimos_pipe.report.tables import (
    Table,
    ablation,
    headline,
    matrix,
    published_means,
    selection,
)


@dataclass(frozen=True)
class ShownFigure:
    """A figure on the page: ``svg`` is markup made by matplotlib, ``how`` says in a sentence how to read it."""

    name: str  # of its files
    title: str
    how: str
    svg: str


@dataclass
class Section:
    """What the page shows of one experiment."""

    title: str
    summary: dict[str, str]
    tables: dict[str, Table] = field(default_factory=dict)
    pictures: dict[str, ShownFigure] = field(default_factory=dict)
    all_curves: list[ShownFigure] = field(default_factory=list)
    pair: str = ""
    seeds: int = 0
    first_seed: int = 0
    labelled: bool = True
    method: str = ""  # that headline and figures show
    tuned: bool = True  # whether it is UniMoS, with epochs and branches
    disagreements: list[Disagreement] = field(default_factory=list)
    tally: Tally | None = None
    pictured: bool = False
    origin: list[tuple[str, list[str]]] = field(default_factory=list)


STEPS = 9  # that a section reports while it is made
PAGE = "report.html"


def _is_report(folder: Path) -> bool:
    try:
        with (folder / PAGE).open(encoding="utf-8", errors="replace") as file:
            return "<title>UniMoS: " in file.read(2000)
    except OSError:
        return False


REPORT = FolderKind(
    "a report", (PAGE, *(f"tables/*.{s}" for s in ("md", "csv", "tex")), "figures/*.png", "figures/*.svg"), _is_report
)


def write_page(
    experiments: Sequence[Experiment],
    left_out: Sequence[str],
    out: Path,
    *,
    command: str,
    cache: Path,
    pair: str | None = None,
    data_root: Path | None = None,
    on_step: Callable[[int], None] = lambda steps: None,
) -> None:
    """Write ``report.html``, ``tables/`` and ``figures/`` as the folder ``out``, whole or not at all.

    An earlier report there is replaced once the new one is whole.

    Args:
        experiments, left_out: from :func:`unimos_pipe.report.runs.find_runs`.
        command: the command line that asked for this, for the page.
        cache: where embedded images are unpacked.
        pair: ``source->target`` that the figures show; None takes the one that gained most.
        data_root: where images are, for thumbnails; embedded data sets need none.
        on_step: called with 1 after each of an experiment's :data:`STEPS`.
    Raises:
        UserError: no run of the pair, damaged files, or a folder that holds anything but a report.
    """
    with sole_writer(out):
        refuse_foreign_folder(out, REPORT, "--out")
        with replace_folder(out) as folder:
            _write_report(experiments, left_out, folder, command, cache, pair, data_root, on_step)


def _write_report(
    experiments: Sequence[Experiment],
    left_out: Sequence[str],
    out: Path,
    command: str,
    cache: Path,
    pair: str | None,
    data_root: Path | None,
    on_step: Callable[[int], None],
) -> None:
    shown = [experiment.shown_pair(pair) for experiment in experiments]
    sections = []
    for number, experiment in enumerate(experiments):
        prefix = "" if len(experiments) == 1 else f"{number + 1}-{slug(experiment.dataset)}-"
        maker = _SectionMaker(experiment, out, prefix, shown[number], on_step)
        sections.append(maker.make(data_root, cache, command))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        sections=sections, left_out=left_out, version=__version__, colours=report_figures.COLOURS
    )
    shown = page.encode("utf-8", "backslashreplace").decode()  # names of files need not be UTF-8
    write_text(out / PAGE, shown)


class _SectionMaker:
    """Fills one section, writing tables and figures as it goes."""

    def __init__(self, experiment: Experiment, out: Path, prefix: str, pair: str, on_step: Callable[[int], None]):
        self.experiment, self.out, self.prefix, self.on_step = experiment, out, prefix, on_step
        self.runs = experiment.select(pair)
        name = experiment.recipe.get("title") or f"{experiment.dataset}, {experiment.model}"
        self.section = Section(str(name), {}, pair=pair.replace("->", " → "), labelled=experiment.labelled)
        self.section.method, self.section.tuned = experiment.main_name, experiment.tuned
        self.section.seeds = len(self.runs)
        self.section.first_seed = self.runs[0].spec["seed"]

    def make(self, data_root: Path | None, cache: Path, command: str) -> Section:
        steps = [self._curves, self._losses, self._all_curves, self._modality, self._bottleneck]
        steps += [lambda: self._disagreements(data_root, cache), self._grid]
        steps = [self._tables, self._classes, *(steps if self.section.tuned else [])]
        for step in steps:
            step()
            self.on_step(1)
        self.on_step(STEPS - len(steps))
        self.section.summary = _summary(self.experiment)
        self.section.origin = origin(self.experiment, command)
        return self.section

    def _add_table(self, table: Table | None) -> None:
        if table is None:
            return
        self.section.tables[table.name] = table
        for suffix, form in (("md", to_markdown), ("csv", to_csv), ("tex", to_latex)):
            write_text(self.out / "tables" / f"{self.prefix}{table.name}.{suffix}", form(table))

    def _add_picture(self, name: str, title: str, how: str, figure: Any) -> ShownFigure:
        full = f"{self.prefix}{name}"
        picture = ShownFigure(full, title, how, report_figures.save(figure, self._folder("figures"), full))
        self.section.pictures[name] = picture
        return picture

    def _folder(self, name: str) -> Path:
        folder = self.out / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _tables(self) -> None:
        experiment = self.experiment
        self._add_table(known_table(experiment))
        if not experiment.labelled:
            return
        paper = published(experiment)
        self._add_table(headline(experiment, paper))
        self._add_table(method_table(experiment))
        if len(experiment.pairs) > 1:
            self._add_table(matrix(experiment))
        if paper.averages:
            self._add_table(published_means(experiment, paper))
        self._add_table(ablation(experiment, paper))
        self._add_table(selection(experiment))

    def _curves(self) -> None:
        if self.section.labelled:
            how = (
                "How accurate the two branches and their ensemble are after each epoch, and how much training trusts "
                "VAC (w, dashed, right axis). Faint lines are seeds, strong ones their mean."
            )
            self._add_picture(
                "curves", "Accuracy over epochs", how, report_figures.curves(self.runs, self.section.pair)
            )

    def _losses(self) -> None:
        how = "Every term of the training loss, each on its own scale: they should settle, not diverge."
        self._add_picture("losses", "Losses by term", how, report_figures.losses(self.runs))

    def _all_curves(self) -> None:
        experiment = self.experiment
        if not experiment.labelled or len(experiment.pairs) < 2:
            return
        for pair in experiment.pairs:
            title = pair.replace("->", " → ")
            figure = report_figures.curves(experiment.select(pair), title, small=True)
            picture = self._add_picture(f"curves-{slug(pair)}", title, "", figure)
            self.section.all_curves.append(picture)

    def _modality(self) -> None:
        how = (
            "t-SNE of the target's sample: one star is a class's text, every other mark an image as CLIP's feature, "
            "as VAC or as LAC. Kinds that form islands of their own are far apart; only nearness means something, the "
            "axes do not."
        )
        figure = report_figures.modality_map(modality_map(self.runs[0]), self.section.pair)
        self._add_picture("modality-gap", "The modality gap", how, figure)
        self._add_table(gap_table(self.experiment))

    def _bottleneck(self) -> None:
        run = self.runs[0]
        classes = map_classes(run)
        names = {side: run.spec[side] for side in ("source", "target")}
        for when in ("before", "after"):
            places = bottleneck_map(run, when)
            title = f"{self.section.pair}, {when} training"
            how = "Bottleneck features by class, the commonest in colour (circles: source, triangles: target)."
            if None in classes["target"]:
                how += " The target's rows here have no labels: only the source has colours."
            self._add_picture(
                f"bottleneck-{when}-class",
                f"{when} training, by class".capitalize(),
                how,
                report_figures.class_map(places, classes, title),
            )
            how = "The same points by domain: well mixed domains cover each other."
            self._add_picture(
                f"bottleneck-{when}-domain",
                f"{when} training, by domain".capitalize(),
                how,
                report_figures.domain_map(places, names, title),
            )

    def _classes(self) -> None:
        if not self.section.labelled:
            return
        names, ours, zero = class_changes(self.runs)
        how = "Accuracy of each class, the best gain on top; the upright mark is zero-shot."
        if len(names) < len(self.runs[0].classes):
            how += f" The {len(names)} classes that changed most, of {len(self.runs[0].classes)}."
        bars = report_figures.class_bars(self.section.method, names, ours, zero)
        self._add_picture("classes", "Classes against zero-shot", how, bars)
        shares, rows, columns = worst_confusions(self.runs)
        how = (
            f"Where the images of the {len(rows)} least accurate classes go, in % of the true class's images: "
            "a row is a true class, a column an answer."
        )
        figure = report_figures.grid(shares, rows, columns, ("true class", "answer"), "{:.0f}", "% of the class")
        self._add_picture("confusion", "Confusion of the worst classes", how, figure)

    def _disagreements(self, data_root: Path | None, cache: Path) -> None:
        run = self.runs[0]
        found, self.section.tally = disagreements(run)
        folder = image_folder(run, data_root, cache)
        if folder is not None:
            found = [replace(item, thumbnail=thumbnail(folder, item.path)) for item in found]
        self.section.disagreements = found
        self.section.pictured = any(item.thumbnail for item in found)

    def _grid(self) -> None:
        if not self.section.labelled:
            return
        self._add_table(grid_table(self.experiment))
        found = sensitivity(self.experiment)
        if found is not None:
            how = "Mean accuracy in % for each pair of settings: an even map means that the choice hardly matters."
            figure = report_figures.grid(found.values, found.rows, found.columns, found.labels, "{:.1f}", "accuracy, %")
            self._add_picture("sensitivity", "Sensitivity", how, figure)


def _summary(experiment: Experiment) -> dict[str, str]:
    """The page's first figures: name -> text."""
    runs, pairs = experiment.runs, experiment.pairs
    main = [run for run in runs if run.label == experiment.main]
    summary = {"runs": f"{len(runs)}", "pairs": f"{len(pairs)}", "target rows": f"{_target_rows(main):,}"}
    if not experiment.labelled:
        return summary

    last, zero, oracle = (experiment.mean(which) for which in ("last", "zero_shot", "oracle_best"))
    gain = round(100 * (last.mean - zero.mean), 1) + 0.0
    bound = {"oracle best": f"{100 * oracle.mean:.1f}"} if oracle else {}
    return {
        experiment.main_name: last.text(),
        "zero-shot": f"{100 * zero.mean:.1f}",
        "gain": f"{gain:+.1f}".replace("-", "−"),
        **bound,
        **summary,
    }


def _target_rows(runs: Sequence[Run]) -> int:
    return sum({run.spec["target"]: run.result["target_rows"] for run in runs}.values())
