"""Published results (``paper_results.toml``, which cites its sources) as fractions, by pair of domains."""

import itertools
import math
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from unimos_pipe.base.errors import InputError, suggestions
from unimos_pipe.data.dataset_spec import DatasetSpec

METHODS = {
    "clip": "CLIP zero-shot",
    "daprompt": "DAPrompt",
    "adclip": "AD-CLIP",
    "padclip": "PADCLIP",
    "unimos": "UniMoS",
    "damp": "DAMP",
    "cmkd": "CMKD",
    "cmkd_fixmatch": "CMKD with FixMatch",
}
MORE = "_more"  # tables of further rows of a benchmark
FROZEN = "ViT-L-14-336"  # encoder of the table of methods on frozen features, one figure a data set
FROZEN_METHODS = {
    "zero_shot": "CLIP zero-shot",
    "source_probe": "source probe",
    "cross_modal_probe": "cross-modal probe",
    "wise_ft": "WiSE-FT",
    "uniot": "UniOT",
    "clip_distillation": "CLIP distillation",
}
ABLATIONS = {
    "full": "full",
    "no-ortho": "w/o orthogonality loss",
    "no-debias": "w/o debiasing",
    "no-im": "w/o information maximization",
    "no-distill": "w/o distillation",
    "fixed-weight": "w/o learnable weight",
    "no-discriminator": "w/o modality discriminator",
}


@dataclass(frozen=True)
class PublishedRow:
    """A published row: values by ``source->target``, empty if only the average was published."""

    label: str
    values: dict[str, float]
    average: float


@cache
def _load_tables() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "paper_results.toml").read_text(encoding="utf-8"))


def load_published_rows(table: str, spec: DatasetSpec) -> list[PublishedRow]:
    """Return the rows of a published table for a data set.

    Args:
        table: ``office_home.RN50``, ``ablation.visda2017`` or ``sensitivity.office_home``, as in recipes.
    Returns:
        Rows labelled by method, or by run label for ablations and grids.
    Raises:
        InputError: unknown table (lists the known ones).
    """
    tables = _load_tables()
    kind, _, name = table.partition(".")
    benchmarks = [key for key, value in tables.items() if "tasks" in value or "domains" in value or key.endswith(MORE)]
    names = [
        f"{key.removesuffix(MORE)}.{encoder}"
        for key in benchmarks
        for encoder in tables[key]
        if encoder[:2] in ("RN", "Vi")
    ]
    names = list(dict.fromkeys([*names, *(f"{key}.{FROZEN}" for key in tables["frozen_vitl14_336"]["datasets"])]))
    names += [f"{key}.{column}" for key in ("ablation", "sensitivity") for column in ("office_home", "visda2017")]
    if table not in names:
        raise InputError(f"no published table {table!r}; {suggestions(table, names)}")
    if kind == "ablation":
        rows = {label: tables[kind][printed][name] for label, printed in ABLATIONS.items()}
        return [PublishedRow(label, {}, _to_fraction(value)) for label, value in rows.items()]
    if kind == "sensitivity":
        return _sensitivity_rows(tables[kind][name])
    if name == FROZEN:
        return _frozen_rows(tables["frozen_vitl14_336"], kind)
    benchmark = tables.get(kind, {})
    rows = {**benchmark.get(name, {}), **tables.get(f"{kind}{MORE}", {}).get(name, {})}
    return [
        PublishedRow(METHODS[key], _values_by_pair(benchmark, row, spec), _to_fraction(row["avg"]))
        for key, row in rows.items()
    ]


def _frozen_rows(table: dict[str, Any], dataset: str) -> list[PublishedRow]:
    """Return the rows of methods on frozen features: overall accuracy on closed sets, one figure a data set."""
    place = table["datasets"].index(dataset)
    return [PublishedRow(label, {}, _to_fraction(table[key][place])) for key, label in FROZEN_METHODS.items()]


def _to_fraction(percent: float) -> float:
    return round(percent / 100, 6)


def _sensitivity_rows(table: dict[str, Any]) -> list[PublishedRow]:
    """Return the rows of a sensitivity grid; its rows are beta, its columns alpha."""
    cells = {
        (alpha, beta): value
        for beta, row in zip(table["beta"], table["acc"], strict=True)
        for alpha, value in zip(table["alpha"], row, strict=True)
    }
    order = itertools.product(table["alpha"], table["beta"])
    return [
        PublishedRow(f"full,alpha={alpha},beta={beta}", {}, _to_fraction(cells[alpha, beta])) for alpha, beta in order
    ]


def _values_by_pair(table: dict[str, Any], row: dict[str, Any], spec: DatasetSpec) -> dict[str, float]:
    if "acc" in row:
        initials = {name[0].lower(): name for name in spec.domains}
        pairs = ["->".join(initials[part[0].lower()] for part in task.split("->")) for task in table["tasks"]]
        return {pair: _to_fraction(value) for pair, value in zip(pairs, row["acc"], strict=True)}
    if "per_class" in row:
        return {table["tasks"][0]: _to_fraction(row["avg"])}
    names = table.get("domains", [])
    if "per_target" in row:
        targets = dict(zip(names, row["per_target"], strict=True))
        return {
            f"{source}->{target}": _to_fraction(targets[target]) for source, target in itertools.permutations(names, 2)
        }
    cells = {
        f"{source}->{target}": _to_fraction(value)
        for target, line in zip(names, row.get("rows", ()), strict=bool(row.get("rows")))
        for source, value in zip(names, line, strict=True)
    }
    return {pair: value for pair, value in cells.items() if not math.isnan(value)}
