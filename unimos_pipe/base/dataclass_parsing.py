"""Parsing of plain values into frozen dataclasses; one message lists all unknown keys, wrong types and bad values."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from typing import Any

from unimos_pipe.base.errors import InputError, join_names, short_repr, suggestions
from unimos_pipe.base.renamed import new_spelling


def option(default, help: str, *, low=None, high=None, choices: tuple = ()):
    """A dataclass field with its help, bounds (inclusive) and choices, all read by :func:`parse_dataclass`."""
    return field(default=default, metadata={"help": help, "low": low, "high": high, "choices": choices})


@dataclass(frozen=True)
class ExtraOption:
    """Field of an option that is registered from outside the package."""

    type: type
    default: Any
    metadata: Mapping[str, Any]


WEIGHT = ExtraOption(float, 0.0, {"help": "weight of a loss from outside the package", "low": 0.0})


def option_fields(cls: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every option of a spec class and its nested classes as (dotted name, dataclass field), in order."""
    for entry in fields(cls):
        name = f"{prefix}{entry.name}"
        if "extra" in entry.metadata:
            yield from ((f"{prefix}{extra}", WEIGHT) for extra in entry.metadata["extra"]())
        elif is_dataclass(entry.type):
            yield from option_fields(entry.type, f"{name}.")
        else:
            yield name, entry


def parse_dataclass(cls: type, values: Mapping[str, Any], where: str):
    """Return a spec from nested plain values, such as parsed TOML.

    Args:
        cls: a dataclass whose fields are made by :func:`option`, or plain fields.
        values: nested mappings of plain values; missing fields keep their defaults.
        where: name of the source, for messages.
    Raises:
        InputError: names every unknown key, wrong type and value out of bounds at once.
    """
    problems: list[str] = []
    spec = collect_dataclass_errors(cls, values, "", problems)
    if problems:
        raise InputError(f"{where}: " + "; ".join(problems))
    return spec


def collect_dataclass_errors(cls: type, values: Mapping[str, Any], prefix: str, problems: list[str]):
    """Like :func:`parse_dataclass`, but append errors to ``problems``, with ``prefix`` before each name.

    Invalid fields keep their defaults, so that the rest can be checked. Returns None if a required field is invalid.
    """
    known = {entry.name: entry for entry in fields(cls)}
    extra = next((entry for entry in known.values() if "extra" in entry.metadata), None)
    if extra is not None:
        values = _gather_extra(values, extra, prefix, problems)
    names = [prefix + name for name, entry in known.items() if entry is not extra]
    if unknown := [f"{prefix}{key}" for key in values if key not in known]:
        problems.append(f"unknown {join_names(unknown)} ({suggestions(unknown, names)})")
    values_by_name = {}
    for name, entry in known.items():
        if name not in values:
            continue
        if entry is extra:
            values_by_name[name] = values[name]
        elif is_dataclass(entry.type):
            if isinstance(values[name], Mapping):
                values_by_name[name] = collect_dataclass_errors(entry.type, values[name], f"{prefix}{name}.", problems)
            else:
                problems.append(f"{prefix}{name}: expected a table, got {short_repr(values[name])}")
        else:
            value, fault = _convert(entry, values[name])
            if fault is None:
                values_by_name[name] = value
            else:
                problems.append(f"{prefix}{name}: {fault}")
    missing = [
        f"{prefix}{name}"
        for name, entry in known.items()
        if name not in values and entry.default is MISSING and entry.default_factory is MISSING
    ]
    if missing:
        problems.append(f"missing {join_names(missing)}")
    try:
        return cls(**values_by_name)
    except TypeError:  # a required field is missing or of the wrong type
        return None


def _gather_extra(values: Mapping[str, Any], extra, prefix: str, problems: list[str]) -> dict[str, Any]:
    """The values with those of options from outside the package gathered in the field that holds them."""
    names = extra.metadata["extra"]()
    pairs = values.get(extra.name, ())
    if not isinstance(pairs, list | tuple) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs):
        problems.append(f"{prefix}{extra.name}: expected pairs of a name and a weight, got {short_repr(pairs)}")
        pairs = ()
    gathered = {str(name): weight for name, weight in pairs}
    gathered |= {name: values[name] for name in values if name in names}
    weights = {}
    for name, value in gathered.items():
        weight, fault = _convert(WEIGHT, value)
        problems += [f"{prefix}{name}: {fault}"] if fault else []
        if fault is None and weight:
            weights[name] = weight
    rest = {name: value for name, value in values.items() if name not in names}
    return {**rest, extra.name: tuple(sorted(weights.items()))}


def _convert(entry, value):
    """Return the value as the field's type, and an error text or None."""
    expected_type, meta = entry.type, entry.metadata
    if isinstance(value, int) and abs(value) >= 2**63:  # JSON and TOML's hexadecimal numbers have no limit
        return value, f"expected a number of at most 64 bits, got {short_repr(value)}"
    if expected_type is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if expected_type == tuple[str, ...]:
        value = (value,) if isinstance(value, str) else value
        if not isinstance(value, list | tuple) or not value or not all(isinstance(item, str) for item in value):
            return (), f"expected one or more texts, got {short_repr(value)}"
        return tuple(value), None
    if not isinstance(value, expected_type) or (expected_type is int and isinstance(value, bool)):
        return value, f"expected {expected_type.__name__}, got {short_repr(value)}"
    if meta.get("choices") and value not in meta["choices"]:
        renamed = f"; {value} is now {new}" if (new := new_spelling(value, meta["choices"])) else ""
        return value, f"expected one of {', '.join(filter(None, meta['choices']))}, got {short_repr(value)}{renamed}"
    low, high = meta.get("low"), meta.get("high")
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        bounds = f"at least {low}" if high is None else f"{low} to {high}"
        return value, f"expected {bounds}, got {short_repr(value)}"
    if expected_type is float and value in (float("inf"), float("-inf")):
        return value, f"expected a finite number, got {value!r}"
    return value, None


def nest_settings(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Nest values by dotted name: ``{"loss.alpha": 1}`` -> ``{"loss": {"alpha": 1}}``."""
    tables: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        section, _, key = name.partition(".")
        tables.setdefault(section, {})[key] = value
    return tables


def fingerprint(spec) -> str:
    """Return a sha256 hex digest of all fields of a dataclass (or plain value), including nested ones."""
    plain = asdict(spec) if is_dataclass(spec) else spec
    return hashlib.sha256(json.dumps(plain, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
