"""HTML tables for notebooks; all text is escaped."""

from collections.abc import Iterable, Sequence
from html import escape

MAX_ROWS = 30


def html_table(title: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return an HTML table with a title. Of more than 30 rows it shows the first 30 and the total."""
    rows = list(rows)
    cells = lambda row, tag: "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in row)  # noqa: E731
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows[:MAX_ROWS])
    more = f" (the first {MAX_ROWS} of {len(rows):,})" if len(rows) > MAX_ROWS else ""
    header = f"<thead><tr>{cells(head, 'th')}</tr></thead>" if head else ""
    return f"<table><caption>{escape(title)}{more}</caption>{header}<tbody>{body}</tbody></table>"
