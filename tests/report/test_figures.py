"""Figures: drawn points and lines, and the inline SVG of the page."""

import re

import numpy as np
import pytest
from factories.runs import write_run
from matplotlib.colors import to_rgb
from PIL import Image

from unimos_pipe.report import figures as report_figures
from unimos_pipe.report.figures import (
    COLOURS,
    draw_class_bars,
    draw_class_map,
    draw_curves,
    draw_domain_map,
    draw_heatmap,
    draw_modality_map,
    save_figure,
)
from unimos_pipe.report.find_runs import find_runs


def points(figure, label: str) -> np.ndarray:
    """Return the positions of a label's marks."""
    return np.concatenate([c.get_offsets() for c in figure.axes[0].collections if c.get_label() == label])


def test_maps_draw_each_point_under_its_own_name():
    places = {
        "image": np.array([[0.0, 1.0]]),
        "VAC": np.array([[2.0, 3.0], [4.0, 5.0]]),
        "text": np.array([[6.0, 7.0]]),
    }
    figure = draw_modality_map(places, "t")
    assert all(np.array_equal(points(figure, name), where) for name, where in places.items())
    sides = {"source": np.array([[0.0, 0.0], [1.0, 1.0]]), "target": np.array([[2.0, 2.0]])}
    assert points(draw_domain_map(sides, {"source": "dark", "target": "light"}, "t"), "light (target)").tolist() == [
        [2, 2]
    ]
    by_class = draw_class_map(sides, {"source": ["cat", "dog"], "target": ["dog"]}, "t")
    assert points(by_class, "cat").tolist() == [[0, 0]] and points(by_class, "dog").tolist() == [[1, 1]]


def test_curves_have_every_seed_faint_and_the_mean_strong(tmp_path):
    for seed, last in ((0, 0.6), (1, 0.8)):
        write_run(tmp_path, seed=seed, last=last)
    axes = draw_curves(find_runs([tmp_path])[0][0].runs, "t", {"zero-shot": 0.55, "fused": 0.75}).axes[0]
    dotted = {line.get_label(): line.get_ydata()[0] for line in axes.get_lines() if line.get_linestyle() == ":"}
    assert dotted == pytest.approx({"zero-shot": 55, "fused": 75})
    ensemble = [line for line in axes.get_lines() if line.get_color() == COLOURS["ensemble"]]
    assert [line.get_ydata()[0] for line in ensemble] == pytest.approx([60, 80, 70])
    assert [line.get_alpha() for line in ensemble] == [0.28, 0.28, None]


def test_bars_and_grids_show_their_figures():
    known = [True, True, False]
    axes = draw_class_bars("fused", ["a", "b", "c"], [0.9, 0.2, 0.9], [0.5, 0.4, 0.8], known).axes[0]
    bars = [bar for bar in axes.patches if bar.get_height() == pytest.approx(0.66)][:3]
    assert [bar.get_width() for bar in bars] == pytest.approx([90, 20, 90])
    colours = [to_rgb(COLOURS[name]) for name in ("ensemble", "down", "other")]
    assert [bar.get_facecolor()[:3] for bar in bars] == colours  # only a significant gain is green
    assert points(axes.figure, "zero-shot")[:, 0].tolist() == pytest.approx([50, 40, 80])
    figure = draw_heatmap(np.array([[1.0, np.nan], [3.0, 4.25]]), ["r", "s"], ["c", "d"], ("y", "x"), "{:.1f}", "%")
    assert [text.get_text() for text in figure.axes[0].texts] == ["1.0", "3.0", "4.2"]


def test_saved_files_and_the_inline_svg(tmp_path):
    figure = draw_modality_map({"image": np.zeros((3, 2))}, "<script>alert(1)</script> & $x$")
    first, second = save_figure(figure, tmp_path, "one"), save_figure(figure, tmp_path, "two")
    assert Image.open(tmp_path / "one.png").size[0] > 700 and (tmp_path / "one.svg").read_text().startswith("<?xml")
    fonts = (tmp_path / "one.pdf").read_bytes()
    assert b"/CIDFontType2" in fonts and b"/Type3" not in fonts  # journals reject fonts of type 3
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0] and not ids[0] & ids[1]
    for reference in re.findall(r'(?:href="#|url\(#)([^")]+)', first):
        assert reference in ids[0]
    assert "<script" not in first and "&lt;script&gt;alert(1)&lt;/script&gt; &amp; $x$" in first
    assert "var(--image)" in first and not any(code in first for code in COLOURS.values())
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", first) and report_figures.WIDTH < 5
