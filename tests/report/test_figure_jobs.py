"""Drawing of figures in processes."""

import os

import pytest

from unimos_pipe.report import figure_jobs
from unimos_pipe.report.figure_jobs import FigureJob, FigureText, PageFigure, draw_figures


@pytest.mark.parametrize("cores", [1, 2])
def test_figures_keep_the_order_of_their_jobs(tmp_path, monkeypatch, cores):
    """Whether one process draws all, or each of two some."""

    def save(figure, folder, name: str) -> str:
        (folder / name).write_text(str(os.getpid()))
        return f"<svg>{figure}</svg>"

    monkeypatch.setattr(figure_jobs, "count_usable_cores", lambda: cores)
    monkeypatch.setattr(figure_jobs.report_figures, "save_figure", save)
    names = ["a", "b", "c"]
    jobs = [FigureJob((FigureText(name, name.upper(), ""),), lambda name=name: [name]) for name in names]
    jobs.append(FigureJob((FigureText("d", "D", "1"), FigureText("e", "E", "2")), lambda: ("one", "two")))
    advances = []
    figures = draw_figures(jobs, tmp_path / "figures", lambda: advances.append(1))
    assert figures[0] == PageFigure("a", "A", "", "<svg>a</svg>") and len(advances) == 4
    assert [(figure.name, figure.svg) for figure in figures[3:]] == [("d", "<svg>one</svg>"), ("e", "<svg>two</svg>")]
    processes = {(tmp_path / "figures" / figure.name).read_text() for figure in figures}
    assert (str(os.getpid()) in processes) == (cores == 1)


def test_an_error_of_a_figure_ends_the_drawing(tmp_path, monkeypatch):
    monkeypatch.setattr(figure_jobs, "count_usable_cores", lambda: 2)
    job = FigureJob((FigureText("a", "A", ""),), lambda: [1 / 0])
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        draw_figures([job, job], tmp_path, lambda: None)
