"""Figures of the report. The only module that imports matplotlib.

Each ``draw_*`` function returns a figure; :func:`save_figure` writes its files.
"""

import functools
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from unimos_pipe.base.atomic_io import atomic_write
from unimos_pipe.report.experiment import FinishedRun
from unimos_pipe.runs.statistics import MeanStd

# Colours by meaning. Each is a CSS variable on the page, so that figures follow its theme.
COLOURS = {
    "ink": "#1c2430", "muted": "#66707e", "line": "#d8dde5", "paper": "#ffffff",
    "vac": "#0b6fb8", "lac": "#d1600b", "ensemble": "#0a8a63", "image": "#7d52c7", "down": "#c2334d",
    "c0": "#0b70b9", "c1": "#d2610c", "c2": "#0b8b64", "c3": "#7e53c8", "c4": "#c3344e", "c5": "#8f6b00",
    "c6": "#0e8c9c", "c7": "#b9479a", "other": "#c3cad4",
}  # fmt: skip
LEVEL_COLOURS = ("c5", "c6", "c7")
CLASS_COLOURS = [f"c{index}" for index in range(8)]
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.edgecolor": COLOURS["muted"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.6,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "svg.hashsalt": "unimos-pipe",
    "figure.facecolor": COLOURS["paper"],
    "axes.facecolor": COLOURS["paper"],
}
PNG_DPI = 180
WIDTH = 4.6  # inches, about the width of a phone


def _styled(draw):
    @functools.wraps(draw)
    def wrapped(*args, **kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapped


def save_figure(figure: Figure, folder: Path, name: str) -> str:
    """Write ``<name>.png``, ``.svg`` and ``.pdf``; return the SVG for the page, with unique ids and theme colours."""
    with mpl.rc_context(STYLE):  # savefig would draw each format twice
        svg, png, pdf = io.StringIO(), io.BytesIO(), io.BytesIO()  # matplotlib raises its own error on a full disk
        FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None})
        figure.set_layout_engine("none")  # layout takes as long as drawing, so it is done once
        figure.set_dpi(PNG_DPI)
        FigureCanvasAgg(figure).print_png(png)
        FigureCanvasPdf(figure).print_pdf(pdf, metadata={"CreationDate": None})
    for suffix, content in (("svg", svg.getvalue().encode()), ("png", png.getvalue()), ("pdf", pdf.getvalue())):
        with atomic_write(folder / f"{name}.{suffix}") as part:
            part.write_bytes(content)
    return inline_svg(svg.getvalue(), name)


def inline_svg(svg: str, name: str) -> str:
    """Return a standalone SVG of :func:`save_figure` as an element of an HTML page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style type=\"text/css\">.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'xlink:href="#', f'xlink:href="#{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    for colour, code in COLOURS.items():
        svg = svg.replace(code, f"var(--{colour})")
    return svg


@_styled
def draw_curves(runs: Sequence[FinishedRun], title: str, levels: Mapping[str, float], small: bool = False) -> Figure:
    """Draw accuracy of VAC, LAC and ensemble over epochs, with the learned w on the right axis.

    Seeds are faint lines, their mean a strong one. ``levels`` are accuracies of other methods (fractions), dotted.
    """
    figure = Figure(figsize=(3.4, 2.5) if small else (WIDTH, 3.5), layout="constrained")
    axes = figure.add_subplot()
    right = axes.twinx()
    epochs = [line["epoch"] for line in runs[0].epochs if line["epoch"] >= 0]
    weights = [[line["train_weight"] for line in run.epochs if line["epoch"] >= 0] for run in runs]
    _plot_seeds(right, epochs, weights, COLOURS["muted"], "learned w (right)", (0, (4, 2)))
    metric = runs[0].result.metric
    for name, label in (("vac", "VAC"), ("lac", "LAC"), ("ensemble", "ensemble")):
        values = [[100 * line[metric][name] for line in run.epochs if line["epoch"] >= 0] for run in runs]
        _plot_seeds(axes, epochs, values, COLOURS[name], label)
    for (name, value), colour in zip(levels.items(), LEVEL_COLOURS, strict=False):
        axes.axhline(100 * value, color=COLOURS[colour], linewidth=1.2, linestyle=":", label=name)
    right.set(ylim=(0, 1.02))
    right.grid(False)
    right.spines["right"].set_visible(True)
    axes.set_title(title, loc="left", color=COLOURS["ink"])
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if not small:
        axes.set(xlabel="epoch", ylabel="accuracy on the target, %")
        right.set_ylabel("w, weight of VAC in training", color=COLOURS["muted"])
        handles = [*axes.get_lines(), *right.get_lines()]
        labelled = [handle for handle in handles if not handle.get_label().startswith("_")]
        figure.legend(handles=labelled, loc="outside lower center", ncols=4)
    return figure


def _plot_seeds(axes, x: Sequence[float], lines: Sequence[Sequence[float]], colour: str, label: str, style="-") -> None:
    """Plot each seed as a faint line and their mean as a strong one."""
    if len(lines) > 1:
        for values in lines:
            axes.plot(x, values, color=colour, alpha=0.28, linewidth=0.9, linestyle=style, label="_seed")
    mean = np.mean(lines, axis=0)
    axes.plot(x, mean, color=colour, linewidth=1.9, linestyle=style, label=label, marker="o" if len(x) == 1 else None)


LOSSES = {
    "lac": "LAC", "vac": "VAC", "im": "information max.", "ortho": "orthogonality",
    "bce_source": "discriminator (source)", "bce_target": "adversary (target)",
}  # fmt: skip


@_styled
def draw_losses(runs: Sequence[FinishedRun]) -> Figure:
    """Draw each term of the loss over epochs, on its own scale."""
    lines = [[line for line in run.epochs if line["epoch"] >= 0] for run in runs]
    terms = list(lines[0][0]["losses"])
    figure = Figure(figsize=(WIDTH, 1.17 * -(-len(terms) // 2)), layout="constrained")
    for index, term in enumerate(terms):
        axes = figure.add_subplot(-(-len(terms) // 2), 2, index + 1)
        values = [[line["losses"][term] for line in run] for run in lines]
        _plot_seeds(axes, [line["epoch"] for line in lines[0]], values, COLOURS["ensemble"], term)
        axes.set_title(LOSSES.get(term, term), loc="left", fontsize=8.5)
        axes.tick_params(labelsize=7.5)
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        if len(terms) - index <= 2:
            axes.set_xlabel("epoch", fontsize=8)
    return figure


FEATURE_KINDS = {  # kind of features -> colour, marker, size
    "image": ("image", "o", 7),
    "VAC": ("vac", "s", 7),
    "LAC": ("lac", "^", 8),
    "text": ("ink", "*", 46),
}


@_styled
def draw_modality_map(positions: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draw a t-SNE map of the target's features by kind."""
    figure, axes = _empty_map(title)
    for kind, points in positions.items():
        colour, marker, size = FEATURE_KINDS[kind]
        axes.scatter(*points.T, s=size, c=COLOURS[colour], marker=marker, linewidths=0, alpha=0.75, label=kind)
    legend = figure.legend(loc="outside lower center", ncols=4, handletextpad=0.1, columnspacing=1.2)
    for handle in legend.legend_handles:
        handle.set_sizes([34])
        handle.set_alpha(1)
    return figure


@_styled
def draw_domain_map(positions: Mapping[str, np.ndarray], names: Mapping[str, str], title: str) -> Figure:
    """Draw a t-SNE map by domain; ``names`` maps source and target to their names."""
    figure, axes = _empty_map(title)
    for side, colour, marker in (("source", "lac", "o"), ("target", "vac", "^")):
        label = f"{names[side]} ({side})"
        axes.scatter(*positions[side].T, s=8, c=COLOURS[colour], marker=marker, linewidths=0, alpha=0.7, label=label)
    figure.legend(loc="outside lower center", ncols=2, markerscale=2, handletextpad=0.1)
    return figure


@_styled
def draw_class_map(
    positions: Mapping[str, np.ndarray], classes: Mapping[str, Sequence[str | None]], title: str
) -> Figure:
    """Draw a t-SNE map by class: the eight most frequent in colour, the rest in grey.

    Circles are the source, triangles the target.
    """
    figure, axes = _empty_map(title)
    counts = Counter(name for side in classes.values() for name in side if name is not None)
    shown = [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: len(CLASS_COLOURS)]]
    for side, marker in (("source", "o"), ("target", "^")):
        names = np.array([str(name) for name in classes[side]])
        others = ~np.isin(names, shown)
        axes.scatter(*positions[side][others].T, s=4, c=COLOURS["other"], marker=marker, linewidths=0, label="_rest")
        for name, colour in zip(shown, CLASS_COLOURS, strict=False):
            points = positions[side][names == name]
            label = name if side == "source" else "_target"
            axes.scatter(*points.T, s=13, c=COLOURS[colour], marker=marker, linewidths=0, alpha=0.9, label=label)
    figure.legend(loc="outside lower center", ncols=4, markerscale=1.4, handletextpad=0.1, columnspacing=1.0)
    return figure


def _empty_map(title: str):
    figure = Figure(figsize=(WIDTH, 4.3), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=COLOURS["line"])
    return figure, axes


@_styled
def draw_class_bars(
    method: str, names: Sequence[str], ours: Sequence[float], zero_shot: Sequence[float], significant: Sequence[bool]
) -> Figure:
    """Draw the accuracy of each class in %, best gain on top, with a mark at zero-shot's.

    A bar is green or red where the difference is significant.
    """
    figure = Figure(figsize=(WIDTH, 0.9 + 0.185 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    rows = np.arange(len(names))[::-1]
    signs = ["ensemble" if a >= b else "down" for a, b in zip(ours, zero_shot, strict=True)]
    colours = [COLOURS[sign if known else "other"] for sign, known in zip(signs, significant, strict=True)]
    axes.barh(rows, 100 * np.array(ours), height=0.66, color=colours, alpha=0.85)
    axes.scatter(
        100 * np.array(zero_shot), rows, marker="|", s=70, c=COLOURS["ink"], linewidths=1.8, label="zero-shot", zorder=3
    )
    axes.set_yticks(rows, [_truncate(name) for name in names], fontsize=8, color=COLOURS["ink"])
    axes.set(xlim=(0, 101), ylim=(-0.7, len(names) - 0.3), xlabel="accuracy on the target, %")
    axes.set_title(method, loc="left")
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.barh([0], [0], color=COLOURS["ensemble"], label="better")
    axes.barh([0], [0], color=COLOURS["down"], label="worse")
    axes.barh([0], [0], color=COLOURS["other"], label="not significant")
    figure.legend(loc="outside upper center", ncols=4, handletextpad=0.4, columnspacing=1.2)
    return figure


@_styled
def draw_method_dots(names: Sequence[str], means: Sequence[MeanStd], by_pair: Sequence[Sequence[float]]) -> Figure:
    """Draw each method's mean in % with its standard deviation over seeds, and its pairs as faint dots."""
    figure = Figure(figsize=(WIDTH, 0.9 + 0.27 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    for row, (mean, pairs) in enumerate(zip(means, by_pair, strict=True)):
        colour = COLOURS["ensemble" if row == 0 else "vac"]
        axes.scatter(100 * np.array(pairs), [row] * len(pairs), s=12, c=colour, alpha=0.3, linewidths=0, label="_pairs")
        bar = None if mean.std is None else [100 * mean.std]
        axes.errorbar([100 * mean.mean], [row], xerr=bar, fmt="o", color=colour, markersize=6, capsize=3, label="_mean")
    axes.set_yticks(range(len(names)), [_truncate(name, 30) for name in names], color=COLOURS["ink"])
    axes.set(ylim=(len(names) - 0.4, -0.6), xlabel="accuracy on the target, %")
    axes.tick_params(axis="y", length=0)
    return figure


@_styled
def draw_heatmap(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    labels: tuple[str, str],
    number_format: str,
    unit: str,
) -> Figure:
    """Draw a heat map with its values; NaN cells stay empty.

    Args:
        values: (R, C).
        labels: axis labels of rows and columns.
        number_format: format of a value, such as ``{:.1f}``.
        unit: label of the colour bar.
    """
    height = 1.5 + 0.3 * len(rows)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    mesh = axes.pcolormesh(np.ma.masked_invalid(values), cmap="YlGnBu", edgecolors=COLOURS["paper"], linewidth=1)
    axes.invert_yaxis()
    axes.set_xticks(np.arange(len(columns)) + 0.5, [_truncate(name, 26) for name in columns], fontsize=8)
    if sum(map(len, columns)) > 30:
        axes.tick_params(axis="x", rotation=55)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(len(rows)) + 0.5, [_truncate(name, 16) for name in rows], fontsize=8)
    axes.tick_params(length=0, labelcolor=COLOURS["ink"])
    axes.set(ylabel=labels[0], xlabel=labels[1])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    low, high = np.nanmin(values), np.nanmax(values)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = value > low + 0.55 * (high - low)
            colour = "#fefefe" if dark else "#10141a"  # contrast to the map's colours, which do not depend on the theme
            axes.text(
                column + 0.5,
                row + 0.5,
                number_format.format(value),
                ha="center",
                va="center",
                color=colour,
                fontsize=7.5,
            )
    bar = figure.colorbar(mesh, ax=axes, fraction=0.04, pad=0.02)
    bar.set_label(unit, color=COLOURS["ink"])
    bar.outline.set_visible(False)
    return figure


def _truncate(name: str, limit: int = 22) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"
