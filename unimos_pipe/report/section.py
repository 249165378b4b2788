"""One experiment's section of the page; its tables and figures are also written as files."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from unimos_pipe.cache.encoder_identity import slug
from unimos_pipe.photos.image_folder import find_image_folder
from unimos_pipe.report import figures as report_figures
from unimos_pipe.report.error_analysis import (
    Disagreement,
    DisagreementCounts,
    class_gains,
    classes_by_method,
    find_disagreements,
    significant_gains,
    worst_confusions,
)
from unimos_pipe.report.experiment import Experiment
from unimos_pipe.report.gain_table import gain_table
from unimos_pipe.report.headline import headline, mean_baseline
from unimos_pipe.report.method_tables import baselines_without_runs, common_pairs, method_table, settings_table
from unimos_pipe.report.modality_gap import bottleneck_classes, gap_table, map_positions
from unimos_pipe.report.photo_overview import PhotoOverview, is_photo_target, photo_overview
from unimos_pipe.report.provenance import collect_provenance
from unimos_pipe.report.published_tables import find_published
from unimos_pipe.report.sensitivity import sensitivity_grid, sensitivity_table
from unimos_pipe.report.setting_names import BASELINES, format_pair
from unimos_pipe.report.setting_selection import setting_selection_tables
from unimos_pipe.report.summary_tiles import SummaryTile, summary_tiles
from unimos_pipe.report.table import Table, correct_tests
from unimos_pipe.report.table_writers import write_table
from unimos_pipe.report.thumbnails import encode_thumbnail
from unimos_pipe.report.unimos_tables import ablation_table, matrix_table, published_table, selection_table
from unimos_pipe.report.unlabelled_target import diagnostics_table
from unimos_pipe.runs.statistics import MeanStd

GetMaps = Callable[[], Mapping[str, Mapping[str, np.ndarray]]]
STEPS = 10  # of a section, those of UniMoS included: the progress bar counts them


@dataclass(frozen=True)
class PageFigure:
    """A figure on the page; ``svg`` is matplotlib's markup."""

    name: str  # file name without suffix
    title: str
    caption: str
    svg: str


@dataclass
class Section:
    """Contents of one experiment's section."""

    title: str
    name: str  # prefix of its files if there are several sections, else empty
    summary: list[SummaryTile]
    tables: dict[str, Table] = field(default_factory=dict)
    figures: dict[str, PageFigure] = field(default_factory=dict)
    curves_by_pair: list[PageFigure] = field(default_factory=list)
    figure_title: str = ""  # pair, and setting of a grid, that figures show
    first_seed: int = 0
    labelled: bool = True
    has_unimos: bool = True  # the default setting is UniMoS, with epochs and branches
    method: str = ""  # display name of the setting that figures show
    calibrated: bool = False  # its probabilities are calibrated
    disagreements: list[Disagreement] = field(default_factory=list)
    disagreement_counts: DisagreementCounts | None = None
    photos: PhotoOverview | None = None  # only of a target with rows that have no label
    has_thumbnails: bool = False
    provenance: list[tuple[str, list[str]]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)  # command lines that reproduce runs and report


class SectionBuilder:
    """Builds one section and writes its tables and figures."""

    def __init__(self, experiment: Experiment, out: Path, name: str, pair: str, on_step: Callable[[int], None]):
        self.experiment, self.out, self.on_step = experiment, out, on_step
        self.prefix = f"{name}-" if name else ""
        self.runs, self.pair = experiment.select(pair), pair
        self.section = Section(experiment.title, name, summary_tiles(experiment), labelled=experiment.labelled)
        self.section.has_unimos, self.section.first_seed = experiment.has_unimos, self.runs[0].spec.seed
        self.section.method = experiment.default_setting_name
        self.section.calibrated = self.runs[0].result.calibration is not None
        setting = f", {experiment.default_setting_name}" if "=" in experiment.default_setting_name else ""
        self.section.figure_title = f"{format_pair(pair)}{setting}"

    def build(self, data_root: Path | None, cache: Path) -> Section:
        """Return the filled section; ``cache`` is where embedded images are unpacked."""
        with contextlib.ExitStack() as stack:
            maps = stack.enter_context(map_positions(self.runs[0])) if self.section.has_unimos else None
            self._take_steps(data_root, cache, maps)
        self.section.provenance = collect_provenance(self.experiment)
        return self.section

    def _take_steps(self, data_root: Path | None, cache: Path, maps: GetMaps | None) -> None:
        """Fill the section; the maps, which take longest, come last."""
        unimos_steps = [
            self._add_curves,
            self._add_losses,
            self._add_curves_by_pair,
            lambda: self._add_disagreements(data_root, cache),
            lambda: self._add_modality_gap(maps()["modality"]),
            lambda: self._add_bottleneck_maps(maps()),
        ]
        shared_steps = [
            self._add_tables,
            self._add_class_figures,
            self._add_method_figures,
            lambda: self._add_photo_overview(data_root, cache),
        ]
        steps = [*shared_steps, *(unimos_steps if self.section.has_unimos else [])]
        for step in steps:
            step()
            self.on_step(1)
        self.on_step(STEPS - len(steps))

    def _add_table(self, table: Table | None) -> None:
        if table is None:
            return
        table = correct_tests(table)
        self.section.tables[table.name] = table
        write_table(self.out / "tables", f"{self.prefix}{table.name}", table)

    def _add_figure(self, name: str, title: str, caption: str, figure: Any) -> PageFigure:
        file_name = f"{self.prefix}{name}"
        folder = self.out / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        page_figure = PageFigure(file_name, title, caption, report_figures.save_figure(figure, folder, file_name))
        self.section.figures[name] = page_figure
        return page_figure

    def _add_tables(self) -> None:
        experiment = self.experiment
        self._add_table(diagnostics_table(experiment))
        if not experiment.labelled:
            return
        paper = find_published(experiment)
        self._add_table(headline(experiment, paper))
        self._add_table(method_table(experiment))
        self._add_table(gain_table(experiment))
        if len(experiment.pairs) > 1:
            self._add_table(matrix_table(experiment))
        if paper.averages:
            self._add_table(published_table(experiment, paper))
        self._add_table(ablation_table(experiment, paper))
        self._add_table(sensitivity_table(experiment))
        self._add_table(settings_table(experiment))
        for table in setting_selection_tables(experiment):
            self._add_table(table)
        if experiment.has_unimos:
            self._add_table(selection_table(experiment))
        grid = sensitivity_grid(experiment)
        if grid is not None:
            caption = (
                "Mean accuracy in % for each combination of settings. An even map means that the choice hardly matters."
            )
            figure = report_figures.draw_heatmap(
                grid.values, grid.rows, grid.columns, grid.labels, "{:.1f}", "accuracy, %"
            )
            self._add_figure("sensitivity", "Sensitivity", caption, figure)

    def _add_method_figures(self) -> None:
        """Add accuracies of all methods, as means and by class."""
        experiment, pairs = self.experiment, common_pairs(self.experiment)
        if "methods" not in self.section.tables:
            return
        means = {
            experiment.display_names[label]: experiment.mean("last", label, pairs)
            for label in experiment.comparable_settings
        }
        by_pair = [
            [experiment.mean("last", label, [pair]).mean for pair in pairs] for label in experiment.comparable_settings
        ]
        for name, values in baselines_without_runs(experiment, pairs).items():
            means[name] = MeanStd(mean_baseline(experiment, name, pairs))
            by_pair.append(values)
        caption = (
            f"Large dots: means over {len(pairs)} pair(s). Bars: standard deviation over seeds. Small dots: pairs."
        )
        figure = report_figures.draw_method_dots(list(means), list(means.values()), by_pair)
        self._add_figure("methods", "Methods", caption, figure)
        labels = [label for label in experiment.comparable_settings if experiment.select(self.pair, label)]
        runs_by_name = {experiment.display_names[label]: experiment.select(self.pair, label) for label in labels}
        values, classes = classes_by_method(runs_by_name)
        caption = f"Accuracy of each class in % on {format_pair(self.pair)}, mean over seeds."
        if len(classes) < len(self.runs[0].classes):
            caption += (
                f" Shown: the {len(classes)} of {len(self.runs[0].classes)} classes on which methods differ most."
            )
        if len(classes):
            figure = report_figures.draw_heatmap(
                values, classes, list(runs_by_name), ("class", "method"), "{:.0f}", "accuracy, %"
            )
            self._add_figure("classes-methods", "Classes by method", caption, figure)

    def _add_curves(self) -> None:
        if self.section.labelled:
            caption = (
                "Accuracy of the two branches and their ensemble after each epoch, and the learned weight of VAC (w, "
                "dashed, right axis). Faint lines: seeds. Strong lines: their mean. Dotted lines: the baselines and "
                "the best other method."
            )
            figure = report_figures.draw_curves(
                self.runs, self.section.figure_title, self._comparison_levels(self.pair)
            )
            self._add_figure("curves", "Accuracy over epochs", caption, figure)

    def _comparison_levels(self, pair: str) -> dict[str, float]:
        """Return accuracies of the baselines and of the best other method on a pair."""
        experiment = self.experiment
        levels = {name: experiment.baseline(name, pair) for name in BASELINES}
        other_means = {
            experiment.display_names[label]: experiment.mean("last", label, [pair])
            for label in experiment.compared_settings
        }
        other_levels = {name: mean.mean for name, mean in other_means.items() if mean is not None}
        best = max(other_levels, key=other_levels.get, default=None)
        levels |= {best: other_levels[best]} if best else {}
        return {name: value for name, value in levels.items() if value is not None}

    def _add_losses(self) -> None:
        caption = "Each term of the training loss, on its own scale. The terms should converge."
        self._add_figure("losses", "Losses by term", caption, report_figures.draw_losses(self.runs))

    def _add_curves_by_pair(self) -> None:
        experiment = self.experiment
        if not experiment.labelled or len(experiment.pairs) < 2:
            return
        for pair in experiment.pairs:
            figure = report_figures.draw_curves(
                experiment.select(pair), format_pair(pair), self._comparison_levels(pair), small=True
            )
            self.section.curves_by_pair.append(self._add_figure(f"curves-{slug(pair)}", format_pair(pair), "", figure))

    def _add_modality_gap(self, positions: Mapping[str, np.ndarray]) -> None:
        caption = (
            "t-SNE of a sample of the target. A star is the text feature of a class; other marks are an image's CLIP, "
            "VAC or LAC feature. Kinds that form separate clusters are far apart. Only distances are meaningful, not "
            "the axes."
        )
        figure = report_figures.draw_modality_map(positions, self.section.figure_title)
        self._add_figure("modality-gap", "The modality gap", caption, figure)
        self._add_table(gap_table(self.experiment))

    def _add_bottleneck_maps(self, maps: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        run = self.runs[0]
        classes = bottleneck_classes(run)
        names = {side: getattr(run.spec, side) for side in ("source", "target")}
        for stage in ("before", "after"):
            title = f"{self.section.figure_title}, {stage} training"
            self._add_bottleneck_map(
                stage, "class", _class_map_caption(classes), report_figures.draw_class_map(maps[stage], classes, title)
            )
            caption = "The same points by domain. Well aligned domains overlap."
            self._add_bottleneck_map(
                stage, "domain", caption, report_figures.draw_domain_map(maps[stage], names, title)
            )

    def _add_bottleneck_map(self, stage: str, by: str, caption: str, figure: Any) -> None:
        self._add_figure(f"bottleneck-{stage}-{by}", f"{stage} training, by {by}".capitalize(), caption, figure)

    def _add_class_figures(self) -> None:
        if not self.section.labelled:
            return
        if self.runs[0].scores("zero_shot"):
            self._add_class_gains()
        shares, rows, columns = worst_confusions(self.runs)
        caption = (
            f"Predictions for the {len(rows)} least accurate classes, in % of the true class's images. Rows are true "
            "classes, columns predicted ones."
        )
        figure = report_figures.draw_heatmap(
            shares, rows, columns, ("true class", "predicted class"), "{:.0f}", "% of the class"
        )
        self._add_figure(
            "confusion",
            f"Confusion matrix of the least accurate classes, {self.experiment.default_setting_name}",
            caption,
            figure,
        )

    def _add_class_gains(self) -> None:
        names, ours, zero = class_gains(self.runs)
        caption = (
            "Accuracy of each class, sorted by gain. The vertical mark is zero-shot. Coloured: the 95% Wilson "
            "intervals of both do not overlap."
        )
        if len(names) < len(self.runs[0].classes):
            caption += f" Shown: the {len(names)} of {len(self.runs[0].classes)} classes that changed most."
        bars = report_figures.draw_class_bars(
            self.experiment.default_setting_name, names, ours, zero, significant_gains(self.runs[0], names, ours, zero)
        )
        self._add_figure("classes", "Accuracy by class", caption, bars)

    def _add_disagreements(self, data_root: Path | None, cache: Path) -> None:
        run = self.runs[0]
        images, self.section.disagreement_counts = find_disagreements(run)
        self.section.disagreements = self._with_thumbnails(images, data_root, cache)

    def _add_photo_overview(self, data_root: Path | None, cache: Path) -> None:
        if not is_photo_target(self.experiment):
            return
        folder = find_image_folder(self.runs[0], data_root, cache)
        self.section.photos = photo_overview(self.runs[0], folder and (lambda path: encode_thumbnail(folder, path)))
        self.section.has_thumbnails = any(photo.thumbnail for photo in self.section.photos.doubtful)

    def _with_thumbnails(self, items: Sequence[Any], data_root: Path | None, cache: Path) -> list[Any]:
        """Return the items with thumbnails of their images, if these are available."""
        folder = find_image_folder(self.runs[0], data_root, cache)
        if folder is not None:
            items = [replace(item, thumbnail=encode_thumbnail(folder, item.path)) for item in items]
        self.section.has_thumbnails = any(item.thumbnail for item in items)
        return list(items)


def _class_map_caption(classes: Mapping[str, Sequence[str | None]]) -> str:
    caption = "Bottleneck features by class, the most frequent in colour (circles: source, triangles: target)."
    if None in classes["target"]:
        caption += " The target's rows have no labels here, so only the source is coloured."
    return caption
