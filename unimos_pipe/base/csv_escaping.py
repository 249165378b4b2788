"""Escaping of CSV cells that a spreadsheet would run as formulas, and the inverse."""

import re

_FORMULA = r"[=+\-@\t\r\n]"  # starts a formula in spreadsheets, or is skipped before one
_BARE_PATH, _ESCAPED_PATH = re.compile(rf"(\./)*{_FORMULA}"), re.compile(rf"(\./)+{_FORMULA}")
_BARE_NAME, _ESCAPED_NAME = re.compile(rf"'*{_FORMULA}"), re.compile(rf"'+{_FORMULA}")


def escape_path(path: str) -> str:
    """Return a path as a CSV cell, with ``./`` before one that begins like a formula."""
    return f"./{path}" if _BARE_PATH.match(path) else path


def unescape_path(cell: str) -> str:
    """Return the path of a cell written by :func:`escape_path`."""
    return cell[2:] if _ESCAPED_PATH.match(cell) else cell


def escape_name(name: str) -> str:
    """Return a name as a CSV cell, with ``'`` before one that begins like a formula."""
    return f"'{name}" if _BARE_NAME.match(name) else name


def unescape_name(cell: str) -> str:
    """Return the name of a cell written by :func:`escape_name`."""
    return cell[1:] if _ESCAPED_NAME.match(cell) else cell
