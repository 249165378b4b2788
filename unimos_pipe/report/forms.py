"""Tables as Markdown, CSV and LaTeX. HTML is the template's job."""

import csv
import io
from collections.abc import Sequence

from unimos_pipe.base.cells import name_to_cell
from unimos_pipe.report.tables import Cell, Table


def to_markdown(table: Table) -> str:
    """A pipe table under its title, figures to the right."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"

    body = [line([cell.text for cell in row]) for row in (*table.rows, *table.footer)]
    rule = "| --- |" + " ---: |" * (len(table.columns) - 1)
    return "\n".join([f"### {table.title}", "", table.how, "", line(table.columns), rule, *body, ""])


def to_csv(table: Table) -> str:
    """Percentages with four decimals; a column with spreads is followed by one of them."""
    rows = (*table.rows, *table.footer)
    spread = [any(row[index].spread is not None for row in rows) for index in range(len(table.columns))]
    head = [
        part
        for name, wide in zip(table.columns, spread, strict=True)
        for part in ([name, f"{name} std"] if wide else [name])
    ]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(name_to_cell, head))
    for row in rows:
        line = []
        for cell, wide in zip(row, spread, strict=True):
            scale = 1 if cell.kind == "distance" else 100
            line.append(name_to_cell(cell.text) if cell.kind in ("name", "text") else _number(cell.value, scale))
            line += [_number(cell.spread, scale)] if wide else []
        writer.writerow(line)
    return file.getvalue()


def _number(value: float | None, scale: int) -> str:
    return "" if value is None else f"{scale * value:.4f}"


def to_latex(table: Table) -> str:
    """A booktabs tabular with a caption; oracle figures in grey."""

    def cell_text(cell: Cell) -> str:
        text = latex_text(cell.text)
        return rf"\textcolor{{gray}}{{{text}}}" if cell.kind == "oracle" else text

    body = [" & ".join(map(cell_text, row)) + r" \\" for row in table.rows]
    if table.footer:
        body += [r"\midrule", *(" & ".join(map(cell_text, row)) + r" \\" for row in table.footer)]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs,graphicx,xcolor}; a table wider than the line is made to fit",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_text(table.title)}. {latex_text(table.how)}}}",
            rf"\label{{tab:{table.name}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
            r"\toprule",
            " & ".join(latex_text(name) for name in table.columns) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
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
    """Text with LaTeX's own characters escaped."""
    return "".join(_LATEX.get(char, char) for char in text)
