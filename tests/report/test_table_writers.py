"""Tables as Markdown, CSV and LaTeX, compared as whole files."""

from unimos_pipe.report.table import Cell, Table, mean_cell, name_cell
from unimos_pipe.report.table_writers import latex_text, to_csv, to_latex, to_markdown
from unimos_pipe.runs.statistics import mean_and_std

FIGURE = mean_cell(mean_and_std([("p", 0, 0.5), ("p", 1, 0.6)]))
TABLE = Table(
    "t", "A & B", "How_to.", ("pair", "x"), ((name_cell("a|<b> → c"), FIGURE),),
    ((name_cell("mean"), Cell("55.0", 0.55, None, "oracle")),),
)  # fmt: skip


def test_markdown():
    assert to_markdown(TABLE) == (
        "### A & B\n\nHow_to.\n\n| pair | x |\n| --- | ---: |\n| a\\|&lt;b> → c | 55.0 ± 7.1 |\n| mean | 55.0 |\n"
    )


def test_csv():
    assert to_csv(TABLE) == "pair,x,x std\na|<b> → c,55.0000,7.0711\nmean,55.0000,\n"


def test_latex():
    assert to_latex(TABLE, "mine-t") == "\n".join(
        [
            r"% needs \usepackage{booktabs,graphicx,xcolor}; a table larger than the page is scaled to fit",
            r"\begin{table}",
            r"\centering",
            r"\caption{A \& B. How\_to.}",
            r"\label{tab:mine-t}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            r"\begin{tabular}{lr}",
            r"\toprule",
            r"pair & x \\",
            r"\midrule",
            r"a|\textless{}b\textgreater{} $\to$ c & 55.0 $\pm$ 7.1 \\",
            r"\midrule",
            r"mean & \textcolor{gray}{55.0} \\",
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )
    assert latex_text("50% of $x_1 \\") == r"50\% of \$x\_1 \textbackslash{}"
