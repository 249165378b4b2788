"""The option ``unknown``: whether rows of none of the classes are looked for, and how many there are."""

from unimos_pipe.base.errors import short_repr

OFF, AUTO_SHARE = "off", "auto"


def unknown_fault(value: str) -> str | None:
    """Return why a value of the option is wrong, or None."""
    if value in (OFF, AUTO_SHARE):
        return None
    try:
        valid = 0 <= float(value) < 1
    except (TypeError, ValueError):
        valid = False
    return None if valid else f"unknown: expected off, auto or a share from 0 to below 1, got {short_repr(value)}"


def unknown_share(value: str) -> float | None:
    """Return the share of unknown rows that a value other than off names; None for auto."""
    return None if value == AUTO_SHARE else float(value)
