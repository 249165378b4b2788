"""Tables as Markdown, CSV and LaTeX. The page's template writes HTML."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from unimos_pipe.base.atomic_io import write_text
from unimos_pipe.base.csv_escaping import escape_name
from unimos_pipe.report.table import Cell, Table

MAX_PAGE_ROWS = 40  # most rows that fit a LaTeX page at normal size


def write_table(folder: Path, name: str, table: Table) -> None:
    """Write ``<name>.md``, ``.csv`` and ``.tex`` to a folder."""
    for suffix, text in (("md", to_markdown(table)), ("csv", to_csv(table)), ("tex", to_latex(table, name))):
        write_text(folder / f"{name}.{suffix}", text)


def to_markdown(table: Table) -> str:
    """Return a pipe table with title and caption."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"

    body = [line([cell.text for cell in row]) for row in (*table.rows, *table.footer)]
    rule = "| --- |" + " ---: |" * (len(table.columns) - 1)
    return "\n".join([f"### {table.title}", "", table.caption, "", line(table.columns), rule, *body, ""])


EXTRA_COLUMNS = {  # columns that follow one whose cells have such values: name -> value of a cell, scale
    "std": (lambda cell: cell.spread, 100),
    "low": (lambda cell: cell.difference and cell.difference.interval and cell.difference.interval[0], 100),
    "high": (lambda cell: cell.difference and cell.difference.interval and cell.difference.interval[1], 100),
    "pairs": (lambda cell: cell.difference and len(cell.difference.by_pair), 1),
    "p": (lambda cell: cell.difference and cell.difference.p, 1),
    "p Holm": (lambda cell: cell.p, 1),
    "p Wilcoxon": (lambda cell: cell.difference and cell.difference.p_wilcoxon, 1),
}


def to_csv(table: Table) -> str:
    """Return percentages with four decimals; standard deviations, 95% intervals and p values in separate columns."""
    rows = (*table.rows, *table.footer)
    extra = [
        [name for name, (value, _) in EXTRA_COLUMNS.items() if any(value(row[index]) is not None for row in rows)]
        for index in range(len(table.columns))
    ]
    columns = [
        part for name, more in zip(table.columns, extra, strict=True) for part in (name, *(f"{name} {m}" for m in more))
    ]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(escape_name, columns))
    for row in rows:
        line = []
        for cell, more in zip(row, extra, strict=True):
            scale = 1 if cell.kind in ("number", "count") else 100
            line.append(escape_name(cell.text) if cell.kind in ("name", "text") else _format_number(cell.value, scale))
            for name in more:
                value, scale = EXTRA_COLUMNS[name]
                line.append(_format_number(value(cell), scale))
        writer.writerow(line)
    return file.getvalue()


def _format_number(value: float | None, scale: int) -> str:
    return "" if value is None else f"{scale * value:.4f}"


def to_latex(table: Table, label: str) -> str:
    """Return a booktabs tabular with a caption and ``\\label{tab:<label>}``; oracle results in grey."""

    def cell_text(cell: Cell) -> str:
        text = latex_text(cell.text)
        return rf"\textcolor{{gray}}{{{text}}}" if cell.kind == "oracle" else text

    fit = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{"
    if len(table.rows) > MAX_PAGE_ROWS:
        fit += r"\resizebox*{!}{\ifdim\totalheight>0.8\textheight 0.8\textheight\else\totalheight\fi}{"
    body = [" & ".join(map(cell_text, row)) + r" \\" for row in table.rows]
    if table.footer:
        body += [r"\midrule", *(" & ".join(map(cell_text, row)) + r" \\" for row in table.footer)]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs,graphicx,xcolor}; a table larger than the page is scaled to fit",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_text(table.title)}. {latex_text(table.caption)}}}",
            rf"\label{{tab:{label}}}",
            f"{fit}%",
            rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
            r"\toprule",
            " & ".join(latex_text(name) for name in table.columns) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}" + "}" * fit.count("{!}"),
            r"\end{table}",
            "",
        ]
    )


_LATEX = {
    "\\": r"\textbackslash{}", "→": r"$\to$", "±": r"$\pm$", "−": "$-$", "–": "--", "<": r"\textless{}",
    ">": r"\textgreater{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
}  # fmt: skip


def latex_text(text: str) -> str:
    """Return the text with LaTeX's special characters escaped."""
    return "".join(_LATEX.get(char, char) for char in text)
