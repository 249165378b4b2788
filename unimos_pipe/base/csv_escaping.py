"""Texts in CSV files that a spreadsheet would otherwise run as formulas; and back again."""

import re

_FORMULA = r"[=+\-@\t\r\n]"  # what spreadsheets take for the start of a formula, or skip before one


def escape_path(path: str) -> str:
    """A path as a CSV cell: ``./`` before one that begins like a formula. :func:`unescape_path` takes it off again."""
    return f"./{path}" if re.match(rf"(\./)*{_FORMULA}", path) else path


def unescape_path(cell: str) -> str:
    """The path that :func:`escape_path` was given."""
    return cell[2:] if re.match(rf"(\./)+{_FORMULA}", cell) else cell


def escape_name(name: str) -> str:
    """A name as a CSV cell: ``'`` before one that begins like a formula. :func:`unescape_name` takes it off again."""
    return f"'{name}" if re.match(rf"'*{_FORMULA}", name) else name


def unescape_name(cell: str) -> str:
    """The name that :func:`escape_name` was given."""
    return cell[1:] if re.match(rf"'+{_FORMULA}", cell) else cell
