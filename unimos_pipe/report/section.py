"""What the page shows of one experiment, its tables and figures written as files on the way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unimos_pipe.cache.encoder_identity import slug
from unimos_pipe.report import figures as report_figures
from unimos_pipe.report.error_analysis import (
    Disagreement,
    DisagreementCounts,
    class_changes,
    classes_by_method,
    disagreements,
    worst_confusions,
)
from unimos_pipe.report.experiment import Experiment
from unimos_pipe.report.headline import baseline, headline
from unimos_pipe.report.method_tables import baselines_without_runs, common_pairs, method_table, settings_table
from unimos_pipe.report.modality_gap import bottleneck_map, gap_table, map_classes, modality_map
from unimos_pipe.report.provenance import collect_provenance
from unimos_pipe.report.published_tables import published
from unimos_pipe.report.sensitivity import sensitivity, sensitivity_table
from unimos_pipe.report.setting_names import BASELINES
from unimos_pipe.report.summary_tiles import SummaryTile, summary_tiles
from unimos_pipe.report.table import Table, correct_tests
from unimos_pipe.report.table_writers import write_table
from unimos_pipe.report.thumbnails import image_folder, thumbnail
from unimos_pipe.report.unimos_tables import ablation, matrix, published_means, selection
from unimos_pipe.report.unlabelled_target import UncertainImage, diagnostics_table, find_uncertain_images, share_changes
from unimos_pipe.runs.statistics import MeanStd

STEPS = 10  # that a section reports while it is made


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
    name: str  # what its files begin with, where there are several sections; else empty
    tiles: list[SummaryTile]
    tables: dict[str, Table] = field(default_factory=dict)
    pictures: dict[str, ShownFigure] = field(default_factory=dict)
    all_curves: list[ShownFigure] = field(default_factory=list)
    shown: str = ""  # the pair, and of a grid the setting, that figures show
    first_seed: int = 0
    labelled: bool = True
    tuned: bool = True  # whether the headline is UniMoS's, with epochs and branches
    method: str = ""  # that figures show
    calibrated: bool = False  # whether its probabilities are
    disagreements: list[Disagreement] = field(default_factory=list)
    doubts: list[UncertainImage] = field(default_factory=list)  # of a target without labels
    tally: DisagreementCounts | None = None
    pictured: bool = False
    origin: list[tuple[str, list[str]]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)  # that make runs and report again


class SectionBuilder:
    """Fills one section, writing tables and figures as it goes."""

    def __init__(self, experiment: Experiment, out: Path, name: str, pair: str, on_step: Callable[[int], None]):
        self.experiment, self.out, self.on_step = experiment, out, on_step
        self.prefix = f"{name}-" if name else ""
        self.runs, self.pair = experiment.select(pair), pair
        self.section = Section(experiment.title, name, summary_tiles(experiment), labelled=experiment.labelled)
        self.section.tuned, self.section.first_seed = experiment.has_unimos, self.runs[0].spec["seed"]
        self.section.method = experiment.default_setting_name
        self.section.calibrated = self.runs[0].result.get("calibration") is not None
        setting = f", {experiment.default_setting_name}" if "=" in experiment.default_setting_name else ""
        self.section.shown = f"{_arrow(pair)}{setting}"

    def make(self, data_root: Path | None, cache: Path) -> Section:
        """Make everything; ``cache`` is where embedded images are unpacked."""
        steps = [self._curves, self._losses, self._all_curves, self._modality, self._bottleneck]
        steps += [lambda: self._disagreements(data_root, cache)]
        first = [self._tables, self._classes, self._methods, lambda: self._known(data_root, cache)]
        steps = [*first, *(steps if self.section.tuned else [])]
        for step in steps:
            step()
            self.on_step(1)
        self.on_step(STEPS - len(steps))
        self.section.origin = collect_provenance(self.experiment)
        return self.section

    def _add_table(self, table: Table | None) -> None:
        if table is None:
            return
        table = correct_tests(table)
        self.section.tables[table.name] = table
        write_table(self.out / "tables", f"{self.prefix}{table.name}", table)

    def _add_picture(self, name: str, title: str, how: str, figure: Any) -> ShownFigure:
        full = f"{self.prefix}{name}"
        folder = self.out / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        picture = ShownFigure(full, title, how, report_figures.save(figure, folder, full))
        self.section.pictures[name] = picture
        return picture

    def _tables(self) -> None:
        experiment = self.experiment
        self._add_table(diagnostics_table(experiment))
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
        self._add_table(sensitivity_table(experiment))
        self._add_table(settings_table(experiment))
        if experiment.has_unimos:
            self._add_table(selection(experiment))
        found = sensitivity(experiment)
        if found is not None:
            how = "Mean accuracy in % for each pair of settings: an even map means that the choice hardly matters."
            figure = report_figures.grid(found.values, found.rows, found.columns, found.labels, "{:.1f}", "accuracy, %")
            self._add_picture("sensitivity", "Sensitivity", how, figure)

    def _methods(self) -> None:
        """Every method side by side, in the mean and by class."""
        experiment, pairs = self.experiment, common_pairs(self.experiment)
        if "methods" not in self.section.tables:
            return
        means = {experiment.names[label]: experiment.mean("last", label, pairs) for label in experiment.compared}
        by_pair = [[experiment.mean("last", label, [pair]).mean for pair in pairs] for label in experiment.compared]
        for name, values in baselines_without_runs(experiment, pairs).items():
            means[name] = MeanStd(baseline(experiment, name, pairs))
            by_pair.append(values)
        how = f"Large dots are means over {len(pairs)} pair(s), bars their spread over seeds, small dots the pairs."
        figure = report_figures.method_dots(list(means), list(means.values()), by_pair)
        self._add_picture("methods", "Methods", how, figure)
        there = [label for label in experiment.compared if experiment.select(self.pair, label)]
        found = {experiment.names[label]: experiment.select(self.pair, label) for label in there}
        values, classes = classes_by_method(found)
        how = f"Accuracy of each class in % on {_arrow(self.pair)}, mean over seeds."
        if len(classes) < len(self.runs[0].classes):
            how += f" The {len(classes)} classes on which methods differ most, of {len(self.runs[0].classes)}."
        if len(classes):
            figure = report_figures.grid(values, classes, list(found), ("class", "method"), "{:.0f}", "accuracy, %")
            self._add_picture("classes-methods", "Classes by method", how, figure)

    def _curves(self) -> None:
        if self.section.labelled:
            how = (
                "How accurate the two branches and their ensemble are after each epoch, and how much training trusts "
                "VAC (w, dashed, right axis). Faint lines are seeds, strong ones their mean; dotted are the baselines "
                "and the best other method."
            )
            figure = report_figures.curves(self.runs, self.section.shown, self._levels(self.pair))
            self._add_picture("curves", "Accuracy over epochs", how, figure)

    def _levels(self, pair: str) -> dict[str, float]:
        """The baselines' figures of a pair, and the best other method's."""
        experiment = self.experiment
        found = {name: experiment.baseline(name, pair) for name in BASELINES}
        others = {
            experiment.names[label]: experiment.mean("last", label, [pair]) for label in experiment.compared_settings
        }
        known = {name: mean.mean for name, mean in others.items() if mean is not None}
        best = max(known, key=known.get, default=None)
        found |= {best: known[best]} if best else {}
        return {name: value for name, value in found.items() if value is not None}

    def _losses(self) -> None:
        how = "Every term of the training loss, each on its own scale: they should settle, not diverge."
        self._add_picture("losses", "Losses by term", how, report_figures.losses(self.runs))

    def _all_curves(self) -> None:
        experiment = self.experiment
        if not experiment.labelled or len(experiment.pairs) < 2:
            return
        for pair in experiment.pairs:
            figure = report_figures.curves(experiment.select(pair), _arrow(pair), self._levels(pair), small=True)
            self.section.all_curves.append(self._add_picture(f"curves-{slug(pair)}", _arrow(pair), "", figure))

    def _modality(self) -> None:
        how = (
            "t-SNE of the target's sample: one star is a class's text, every other mark an image as CLIP's feature, "
            "as VAC or as LAC. Kinds that form islands of their own are far apart; only nearness means something, the "
            "axes do not."
        )
        figure = report_figures.modality_map(modality_map(self.runs[0]), self.section.shown)
        self._add_picture("modality-gap", "The modality gap", how, figure)
        self._add_table(gap_table(self.experiment))

    def _bottleneck(self) -> None:
        run = self.runs[0]
        classes = map_classes(run)
        names = {side: run.spec[side] for side in ("source", "target")}
        for when in ("before", "after"):
            places = bottleneck_map(run, when)
            title = f"{self.section.shown}, {when} training"
            self._add_bottleneck(when, "class", _class_how(classes), report_figures.class_map(places, classes, title))
            how = "The same points by domain: well mixed domains cover each other."
            self._add_bottleneck(when, "domain", how, report_figures.domain_map(places, names, title))

    def _add_bottleneck(self, when: str, by: str, how: str, figure: Any) -> None:
        self._add_picture(f"bottleneck-{when}-{by}", f"{when} training, by {by}".capitalize(), how, figure)

    def _classes(self) -> None:
        if not self.section.labelled:
            return
        names, ours, zero = class_changes(self.runs)
        how = "Accuracy of each class, the best gain on top; the upright mark is zero-shot."
        if len(names) < len(self.runs[0].classes):
            how += f" The {len(names)} classes that changed most, of {len(self.runs[0].classes)}."
        bars = report_figures.class_bars(self.experiment.default_setting_name, names, ours, zero)
        self._add_picture("classes", "Classes against zero-shot", how, bars)
        shares, rows, columns = worst_confusions(self.runs)
        how = (
            f"Where the images of the {len(rows)} least accurate classes go, in % of the true class's images: "
            "a row is a true class, a column an answer."
        )
        figure = report_figures.grid(shares, rows, columns, ("true class", "answer"), "{:.0f}", "% of the class")
        self._add_picture(
            "confusion", f"Confusion of the worst classes, {self.experiment.default_setting_name}", how, figure
        )

    def _disagreements(self, data_root: Path | None, cache: Path) -> None:
        run = self.runs[0]
        found, self.section.tally = disagreements(run)
        self.section.disagreements = self._pictured(found, data_root, cache)

    def _known(self, data_root: Path | None, cache: Path) -> None:
        """What a target without labels shows first."""
        if self.section.labelled:
            return
        run = self.runs[0]
        self.section.doubts = self._pictured(find_uncertain_images(run), data_root, cache)
        names, ours, source = share_changes(run)
        if names:
            how = "How often each class is answered; the upright mark is its share of the source."
            if len(names) < len(run.classes):
                how += f" The {len(names)} classes whose shares differ most, of {len(run.classes)}."
            self._add_picture("shares", "Shares of the classes", how, report_figures.share_bars(names, ours, source))

    def _pictured(self, items: Sequence[Any], data_root: Path | None, cache: Path) -> list[Any]:
        """Items with their images' thumbnails, where the images are at hand."""
        folder = image_folder(self.runs[0], data_root, cache)
        if folder is not None:
            items = [replace(item, thumbnail=thumbnail(folder, item.path)) for item in items]
        self.section.pictured = any(item.thumbnail for item in items)
        return list(items)


def _arrow(pair: str) -> str:
    return pair.replace("->", " → ")


def _class_how(classes: Mapping[str, Sequence[str | None]]) -> str:
    how = "Bottleneck features by class, the commonest in colour (circles: source, triangles: target)."
    if None in classes["target"]:
        how += " The target's rows here have no labels: only the source has colours."
    return how
