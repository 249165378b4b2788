"""One experiment's section of the page; its tables and figures are also written as files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
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
from unimos_pipe.report.figure_jobs import FigureJob, FigureText, PageFigure, draw_figures
from unimos_pipe.report.gain_table import gain_table
from unimos_pipe.report.headline import headline, mean_baseline
from unimos_pipe.report.method_tables import baselines_without_runs, common_pairs, method_table, settings_table
from unimos_pipe.report.modality_gap import bottleneck_classes, bottleneck_features, gap_table, modality_features, tsne
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

STEPS = 10  # of a section on the progress bar, in proportion to its drawn figures


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
        self.jobs: list[FigureJob] = []
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
        self._add_tables()
        self._add_class_figures()
        self._add_method_figures()
        self._add_photo_overview(data_root, cache)
        if self.section.has_unimos:
            self._add_curves()
            self._add_losses()
            self._add_curves_by_pair()
            self._add_disagreements(data_root, cache)
            self._add_modality_gap()
            self._add_bottleneck_maps()
        self._draw_figures()
        self.section.provenance = collect_provenance(self.experiment)
        return self.section

    def _draw_figures(self) -> None:
        """Draw all figures that were added."""
        if not self.jobs:
            self.on_step(STEPS)
            return
        drawn_jobs = 0

        def advance() -> None:
            nonlocal drawn_jobs
            drawn_jobs += 1
            self.on_step(STEPS * drawn_jobs // len(self.jobs) - STEPS * (drawn_jobs - 1) // len(self.jobs))

        for figure in draw_figures(self.jobs, self.out / "figures", advance):
            self.section.figures[figure.name.removeprefix(self.prefix)] = figure
        curves = [f"curves-{slug(pair)}" for pair in self.experiment.pairs]
        self.section.curves_by_pair = [self.section.figures[name] for name in curves if name in self.section.figures]

    def _add_table(self, table: Table | None) -> None:
        if table is None:
            return
        table = correct_tests(table)
        self.section.tables[table.name] = table
        write_table(self.out / "tables", f"{self.prefix}{table.name}", table)

    def _add_figure(self, name: str, title: str, caption: str, draw: Callable[[], Any]) -> None:
        """Add a figure that ``draw()`` returns once all are drawn."""
        self.jobs.append(FigureJob((FigureText(f"{self.prefix}{name}", title, caption),), lambda: [draw()]))

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
            draw = partial(
                report_figures.draw_heatmap, grid.values, grid.rows, grid.columns, grid.labels, "{:.1f}", "accuracy, %"
            )
            self._add_figure("sensitivity", "Sensitivity", caption, draw)

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
        draw = partial(report_figures.draw_method_dots, list(means), list(means.values()), by_pair)
        self._add_figure("methods", "Methods", caption, draw)
        labels = [label for label in experiment.comparable_settings if experiment.select(self.pair, label)]
        runs_by_name = {experiment.display_names[label]: experiment.select(self.pair, label) for label in labels}
        values, classes = classes_by_method(runs_by_name)
        caption = f"Accuracy of each class in % on {format_pair(self.pair)}, mean over seeds."
        if len(classes) < len(self.runs[0].classes):
            caption += (
                f" Shown: the {len(classes)} of {len(self.runs[0].classes)} classes on which methods differ most."
            )
        if len(classes):
            draw = partial(
                report_figures.draw_heatmap,
                values,
                classes,
                list(runs_by_name),
                ("class", "method"),
                "{:.0f}",
                "accuracy, %",
            )
            self._add_figure("classes-methods", "Classes by method", caption, draw)

    def _add_curves(self) -> None:
        if self.section.labelled:
            caption = (
                "Accuracy of the two branches and their ensemble after each epoch, and the learned weight of VAC (w, "
                "dashed, right axis). Faint lines: seeds. Strong lines: their mean. Dotted lines: the baselines and "
                "the best other method."
            )
            levels = self._comparison_levels(self.pair)
            draw = partial(report_figures.draw_curves, self.runs, self.section.figure_title, levels)
            self._add_figure("curves", "Accuracy over epochs", caption, draw)

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
        self._add_figure("losses", "Losses by term", caption, partial(report_figures.draw_losses, self.runs))

    def _add_curves_by_pair(self) -> None:
        experiment = self.experiment
        if not experiment.labelled or len(experiment.pairs) < 2:
            return
        for pair in experiment.pairs:
            title, levels = format_pair(pair), self._comparison_levels(pair)
            draw = partial(report_figures.draw_curves, experiment.select(pair), title, levels, small=True)
            self._add_figure(f"curves-{slug(pair)}", title, "", draw)

    def _add_modality_gap(self) -> None:
        caption = (
            "t-SNE of a sample of the target. A star is the text feature of a class; other marks are an image's CLIP, "
            "VAC or LAC feature. Kinds that form separate clusters are far apart. Only distances are meaningful, not "
            "the axes."
        )
        features, title = modality_features(self.runs[0]), self.section.figure_title
        draw = lambda: report_figures.draw_modality_map(tsne(features), title)  # noqa: E731
        self._add_figure("modality-gap", "The modality gap", caption, draw)
        self._add_table(gap_table(self.experiment))

    def _add_bottleneck_maps(self) -> None:
        run = self.runs[0]
        classes = bottleneck_classes(run)
        names = {side: getattr(run.spec, side) for side in ("source", "target")}
        captions = {
            "class": _class_map_caption(classes),
            "domain": "The same points by domain. Well aligned domains overlap.",
        }
        for stage in ("before", "after"):
            texts = tuple(
                FigureText(
                    f"{self.prefix}bottleneck-{stage}-{by}", f"{stage} training, by {by}".capitalize(), captions[by]
                )
                for by in captions
            )
            title = f"{self.section.figure_title}, {stage} training"
            draw = partial(_draw_bottleneck_maps, bottleneck_features(run, stage), classes, names, title)
            self.jobs.append(FigureJob(texts, draw))

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
        draw = partial(
            report_figures.draw_heatmap,
            shares,
            rows,
            columns,
            ("true class", "predicted class"),
            "{:.0f}",
            "% of the class",
        )
        self._add_figure(
            "confusion",
            f"Confusion matrix of the least accurate classes, {self.experiment.default_setting_name}",
            caption,
            draw,
        )

    def _add_class_gains(self) -> None:
        names, ours, zero = class_gains(self.runs)
        caption = (
            "Accuracy of each class, sorted by gain. The vertical mark is zero-shot. Coloured: the 95% Wilson "
            "intervals of both do not overlap."
        )
        if len(names) < len(self.runs[0].classes):
            caption += f" Shown: the {len(names)} of {len(self.runs[0].classes)} classes that changed most."
        significant = significant_gains(self.runs[0], names, ours, zero)
        draw = partial(
            report_figures.draw_class_bars, self.experiment.default_setting_name, names, ours, zero, significant
        )
        self._add_figure("classes", "Accuracy by class", caption, draw)

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


def _draw_bottleneck_maps(
    features: Mapping[str, np.ndarray],
    classes: Mapping[str, Sequence[str | None]],
    names: Mapping[str, str],
    title: str,
) -> tuple[Any, Any]:
    """Return one t-SNE map by class and by domain."""
    positions = tsne(features)
    return (
        report_figures.draw_class_map(positions, classes, title),
        report_figures.draw_domain_map(positions, names, title),
    )


def _class_map_caption(classes: Mapping[str, Sequence[str | None]]) -> str:
    caption = "Bottleneck features by class, the most frequent in colour (circles: source, triangles: target)."
    if None in classes["target"]:
        caption += " The target's rows have no labels here, so only the source is coloured."
    return caption
