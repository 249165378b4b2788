"""Texts in CSV files that a spreadsheet would otherwise run as formulas; and back again."""

import re

_FORMULA = r"[=+\-@\t\r\n]"  # what spreadsheets take for the start of a formula, or skip before one


def path_to_cell(path: str) -> str:
    """A path as a CSV cell: ``./`` before one that begins like a formula. :func:`path_from_cell` takes it off again."""
    return f"./{path}" if re.match(rf"(\./)*{_FORMULA}", path) else path


def path_from_cell(cell: str) -> str:
    """The path that :func:`path_to_cell` was given."""
    return cell[2:] if re.match(rf"(\./)+{_FORMULA}", cell) else cell


def name_to_cell(name: str) -> str:
    """A name as a CSV cell: ``'`` before one that begins like a formula. :func:`name_from_cell` takes it off again."""
    return f"'{name}" if re.match(rf"'*{_FORMULA}", name) else name


def name_from_cell(cell: str) -> str:
    """The name that :func:`name_to_cell` was given."""
    return cell[1:] if re.match(rf"'+{_FORMULA}", cell) else cell
