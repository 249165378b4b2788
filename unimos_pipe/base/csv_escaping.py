"""Escaping of CSV cells that a spreadsheet would run as formulas, and the inverse."""

import re

_FORMULA = r"[=+\-@\t\r\n]"  # starts a formula in spreadsheets, or is skipped before one


def escape_path(path: str) -> str:
    """Return a path as a CSV cell, with ``./`` before one that begins like a formula."""
    return f"./{path}" if re.match(rf"(\./)*{_FORMULA}", path) else path


def unescape_path(cell: str) -> str:
    """Return the path of a cell written by :func:`escape_path`."""
    return cell[2:] if re.match(rf"(\./)+{_FORMULA}", cell) else cell


def escape_name(name: str) -> str:
    """Return a name as a CSV cell, with ``'`` before one that begins like a formula."""
    return f"'{name}" if re.match(rf"'*{_FORMULA}", name) else name


def unescape_name(cell: str) -> str:
    """Return the name of a cell written by :func:`escape_name`."""
    return cell[1:] if re.match(rf"'+{_FORMULA}", cell) else cell
