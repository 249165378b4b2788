"""Figures of a section, drawn beside each other in processes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unimos_pipe.base.fork_pool import Send, can_fork, count_usable_cores, parallel_map
from unimos_pipe.report import figures as report_figures


@dataclass(frozen=True)
class FigureText:
    """Texts of a figure on the page; ``name`` is that of its files without suffix."""

    name: str
    title: str
    caption: str


@dataclass(frozen=True)
class PageFigure(FigureText):
    """A figure on the page; ``svg`` is matplotlib's markup."""

    svg: str


@dataclass(frozen=True)
class FigureJob:
    """Figures that one process draws: ``draw()`` returns a matplotlib figure for each of ``texts``."""

    texts: tuple[FigureText, ...]
    draw: Callable[[], Sequence[Any]]


def draw_figures(jobs: Sequence[FigureJob], folder: Path, on_drawn: Callable[[], None]) -> list[PageFigure]:
    """Write each figure's files to ``folder`` and return the figures in the order of the jobs.

    The last jobs start first: they should be the longest. Each core draws one job at a time.

    Args:
        on_drawn: called after each job.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def draw(job: FigureJob, send: Send) -> list[PageFigure]:
        figures = [
            PageFigure(text.name, text.title, text.caption, report_figures.save_figure(figure, folder, text.name))
            for text, figure in zip(job.texts, job.draw(), strict=True)
        ]
        send(None)
        return figures

    processes = count_usable_cores() if can_fork() else 1
    drawn = parallel_map(draw, jobs[::-1], processes, lambda _: on_drawn())
    return [figure for figures in reversed(drawn) for figure in figures]
