"""What the runs say as tables of plain values."""

from dataclasses import dataclass, replace

from unimos_pipe.base.config import titled
from unimos_pipe.report.printed import PrintedFigures
from unimos_pipe.report.runs import FULL, Experiment
from unimos_pipe.runs.means import MeanSpread, mean_and_spread, on_labelled_rows
from unimos_pipe.runs.methods import UNIMOS


@dataclass(frozen=True)
class Cell:
    """One cell. ``value`` and ``spread`` are fractions; ``kind`` is "", name, text, main, oracle, paper, change or
    distance.
    """

    text: str
    value: float | None = None
    spread: float | None = None
    kind: str = ""
    heat: float | None = None  # 0 to 1, how strongly to shade

    @property
    def sign(self) -> str:
        """``up``, ``down`` or ``even`` for a change, by the figure as it is printed; else nothing."""
        if self.kind != "change" or self.value is None:
            return ""
        shown = round(100 * self.value, 1)
        return "up" if shown > 0 else "down" if shown < 0 else "even"


@dataclass(frozen=True)
class Table:
    """A titled table; ``how`` says in a sentence how to read it. ``footer`` rows are set apart."""

    name: str  # of its files
    title: str
    how: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    footer: tuple[tuple[Cell, ...], ...] = ()


def name_cell(text: str) -> Cell:
    """The first cell of a row."""
    return Cell(text, kind="name")


def mean_cell(found: MeanSpread | float | None, kind: str = "") -> Cell:
    """A figure, or a mean with its spread, of fractions in percent with one decimal; a dash where there is none."""
    if found is None:
        return Cell("–", kind=kind)
    found = found if isinstance(found, MeanSpread) else MeanSpread(found)
    return Cell(found.text(), found.mean, found.spread, kind)


def number_cell(value: float | None) -> Cell:
    """A plain number with one decimal, such as seconds; a dash where there is none."""
    return Cell("–" if value is None else f"{value:.1f}", value, kind="distance")


def change(ours: float | None, other: float | None) -> Cell:
    """A difference of fractions in points, with its sign."""
    if ours is None or other is None:
        return Cell("–", kind="change")
    shown = round(100 * (ours - other), 1) + 0.0  # no negative zero
    return Cell(f"{shown:+.1f}".replace("-", "−") if shown else "0.0", ours - other, kind="change")


def headline(experiment: Experiment, paper: PrintedFigures) -> Table:
    """Pairs by method, the paper's figures beside ours where there are any."""
    pairs = experiment.pairs
    source_only = {pair: experiment.baselines.get(pair, {}).get("source_only") for pair in pairs}
    with_source, ours = any(source_only.values()), experiment.ours
    with_paper = experiment.tuned and bool(paper.pairs)
    partly = any(experiment.partly(pair) for pair in pairs)
    rows = []
    for pair in pairs:
        last, zero = experiment.mean("last", pair), _mean(experiment.mean("zero_shot", pair))
        class_means = last and mean_and_spread(
            (pair, run.spec["seed"], run.result["accuracy"]["last"]["per_class_mean"])
            for run in experiment.select(pair)
        )
        compared = _mean(class_means if paper.per_class_mean else last)
        printed = paper.pairs.get(pair, {})
        rows.append(
            (
                name_cell(pair.replace("->", " → ")),
                mean_cell(last, "main"),
                change(_mean(last), zero),
                *(mean_cell(mean_and_spread(experiment.measured("last", label, [pair]))) for label in ours),
                mean_cell(zero),
                *([mean_cell(source_only[pair])] if with_source else []),
                mean_cell(class_means),
                *([mean_cell(printed.get(FULL), "paper"), change(compared, printed.get(FULL))] if with_paper else []),
                *([mean_cell(experiment.mean("oracle_best", pair), "oracle")] if experiment.tuned else []),
                *([_known_cell(experiment, pair)] if partly else []),
            )
        )
    columns = (
        "pair",
        experiment.main_name,
        "gain",
        *map(titled, ours),
        "zero-shot",
        *(["source probe"] if with_source else []),
        "class mean",
        *(["paper", "vs paper"] if with_paper else []),
        *(["oracle best"] if experiment.tuned else []),
        *(["known from"] if partly else []),
    )
    how = _how(experiment.tuned)
    if partly:
        how += " Known from: where only some rows have labels, how many, and the 95% Wilson interval on them."
    if ours:
        how += " What is marked (ours) is UniMoS with a change of ours that is not in the paper."
    if with_paper:
        kind = "class means" if paper.per_class_mean else "accuracies"
        how += f" Paper is the published UniMoS figure, compared with our {kind}."
    footer = (_average_row(columns, rows, experiment),) if len(pairs) > 1 else ()
    return Table("headline", "Accuracy by pair", how, columns, tuple(rows), footer)


def _how(tuned: bool) -> str:
    """How to read the headline, of UniMoS or of another method."""
    how = "Accuracy on the target in %. "
    if tuned:
        how += "UniMoS is the last epoch, mean ± standard deviation over seeds; "
    how += "gain is against CLIP's zero-shot answers; class mean averages the classes' accuracies."
    if tuned:
        how += " Oracle best is the best epoch chosen with the target's own labels: no method may do that, so it is "
        how += "only a bound."
    return how


def _known_cell(experiment: Experiment, pair: str) -> Cell:
    """What an accuracy on some labelled rows is worth."""
    counts = experiment.partly(pair)
    return Cell(on_labelled_rows(experiment.mean("last", pair).mean, *counts) if counts else "all rows", kind="text")


def _average_row(columns, rows, experiment: Experiment) -> tuple[Cell, ...]:
    """Means over the pairs; where the figures are ours and have seeds, with the spread of that mean over them."""
    own = {experiment.main_name: "last", "oracle best": "oracle_best"}
    cells = [name_cell(f"mean of {len(rows)}")]
    for position, column in enumerate(columns[1:], 1):
        kind = rows[0][position].kind
        values = [row[position].value for row in rows]
        average = None if None in values else _mean(mean_and_spread((str(i), 0, v) for i, v in enumerate(values)))
        if kind == "change":
            cells.append(change(average, 0.0))
        elif column in own and average is not None:
            cells.append(mean_cell(experiment.mean(own[column]), kind))
        else:
            cells.append(mean_cell(average, kind))
    return tuple(cells)


def _mean(found: MeanSpread | None) -> float | None:
    return None if found is None else found.mean


def matrix(experiment: Experiment) -> Table:
    """Sources in rows, targets in columns: the last epoch's accuracy."""
    sources = list(dict.fromkeys(pair.split("->")[0] for pair in experiment.pairs))
    targets = list(dict.fromkeys(pair.split("->")[1] for pair in experiment.pairs))
    order = sources + [name for name in targets if name not in sources]
    targets = [name for name in order if name in targets]
    values = {pair: experiment.mean("last", pair).mean for pair in experiment.pairs}
    low, high = min(values.values()), max(values.values())

    def shaded(pair: str) -> Cell:
        value = values.get(pair)
        return replace(mean_cell(value), heat=None if value is None else (value - low) / ((high - low) or 1))

    rows = [(name_cell(source), *(shaded(f"{source}->{target}") for target in targets)) for source in sources]
    zero = [
        mean_cell(_mean(experiment.mean("zero_shot", *(p for p in experiment.pairs if p.endswith(f"->{target}")))))
        for target in targets
    ]
    return Table(
        "matrix",
        "Source by target",
        "Accuracy of the last epoch in %: the source in rows, the target in columns; stronger colour is better. "
        "A column that stays even says that the source hardly matters.",
        ("source", *targets),
        tuple(rows),
        ((name_cell("zero-shot"), *zero),),
    )


def published_means(experiment: Experiment, paper: PrintedFigures) -> Table:
    """The published averages of every method on this data set, ours among them."""
    ours = _mean(experiment.mean("last"))
    rows = [(name_cell(f"{name} (paper)"), mean_cell(value, "paper")) for name, value in paper.averages.items()]
    rows.append((name_cell(f"{experiment.main_name} (these runs)"), mean_cell(ours)))
    return Table(
        "published",
        "PrintedFigures averages",
        "The averages that papers print for this data set and encoder, and ours over the pairs above.",
        ("method", "average"),
        tuple(sorted(rows, key=lambda row: row[1].value or 0)),
    )


def ablation(experiment: Experiment, paper: PrintedFigures) -> Table | None:
    """UniMoS's variants over the pairs and seeds that all of them have; None with fewer than two."""
    changed = {run.label: run.spec["changed"] for run in experiment.runs if run.method == UNIMOS}
    labels = [label for label in experiment.labels if label in changed and changed[label] == changed[experiment.main]]
    if len(labels) < 2:
        return None
    cells = {
        label: {(run.pair, run.spec["seed"]): run for run in experiment.runs if run.label == label} for label in labels
    }
    common = sorted(set.intersection(*(set(found) for found in cells.values())))
    seeds = sorted({seed for _, seed in common})
    variants = {run.label: run.spec["variant"] for run in experiment.runs}

    def over_seeds(label: str, which: str) -> MeanSpread | None:
        return mean_and_spread((*place, cells[label][place].accuracy(which)) for place in common)

    base = _mean(over_seeds(labels[0], "last"))
    rows = []
    for label in labels:
        last = over_seeds(label, "last")
        rows.append(
            (
                name_cell(titled(label)),
                mean_cell(last),
                Cell("", kind="change") if label == labels[0] else change(_mean(last), base),
                mean_cell(_mean(over_seeds(label, "vac"))),
                mean_cell(_mean(over_seeds(label, "lac"))),
                *([mean_cell(paper.ablations.get(variants[label]), "paper")] if paper.ablations else []),
            )
        )
    pairs = len({pair for pair, _ in common})
    how = (
        f"What each part is worth: mean accuracy in % over the {pairs} pair(s) and {len(seeds)} seed(s) that every "
        f"variant finished, ± over seeds; the difference is against {titled(labels[0])}. VAC and LAC are the branches "
        "alone."
    )
    columns = ("variant", "ensemble", f"vs {titled(labels[0])}", "VAC", "LAC", *(["paper"] if paper.ablations else []))
    return Table("ablation", "Ablation", how, columns, tuple(rows))


def selection(experiment: Experiment) -> Table | None:
    """What a label-free choice of the epoch would have given, averaged over the main runs; None without validators."""
    runs = [run for pair in experiment.pairs for run in experiment.select(pair)]
    picks = [run.result.get("selected") or {} for run in runs]
    names = [name for name in picks[0] if all(name in found for found in picks)]
    if not names:
        return None
    last = _mean(experiment.mean("last"))
    rows = [(name_cell("last epoch (headline)"), mean_cell(last), change(last, last))]
    for name in names:
        mean = _mean(
            mean_and_spread(
                (run.pair, run.spec["seed"], found[name]["accuracy"]) for run, found in zip(runs, picks, strict=True)
            )
        )
        rows.append((name_cell(name), mean_cell(mean), change(mean, last)))
    best = _mean(experiment.mean("oracle_best"))
    rows.append((name_cell("oracle best"), mean_cell(best, "oracle"), change(best, last)))
    return Table(
        "selection",
        "Choosing the epoch without labels",
        "Mean accuracy in % of the epoch that each label-free validator picks; the oracle picks with target labels.",
        ("picked by", "accuracy", "vs last"),
        tuple(rows),
    )
