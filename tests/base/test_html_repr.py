"""HTML for notebooks: where a table is cut. What is escaped: tests/integration/test_notebook.py."""

from unimos_pipe.base.html_repr import MAX_ROWS, html_table


def test_a_table_is_cut_above_its_most_rows():
    whole, cut = (html_table("t", ["a"], [["x"]] * rows) for rows in (MAX_ROWS, MAX_ROWS + 1))
    assert "<caption>t</caption>" in whole and f"<caption>t (the first {MAX_ROWS} of {MAX_ROWS + 1})</caption>" in cut
    assert whole.count("<td>x</td>") == cut.count("<td>x</td>") == MAX_ROWS
