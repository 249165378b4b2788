"""What shapes a run, the name that follows from it, and the identity by which a finished run is known again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unimos_pipe.base.dataclass_parsing import fingerprint, option_fields
from unimos_pipe.base.method_config import MethodSpec, display_name, method_spec
from unimos_pipe.runs.method_names import UNIMOS, UNIMOS_NAME

# Raised whenever a default of MethodSpec or a result of equal options changes: finished runs are then trained again.
ARITHMETIC = 5


@dataclass(frozen=True)
class RunSpec:
    """Everything that shapes a run but the shards it reads. ``variant`` and ``options`` are UniMoS's alone."""

    dataset: str
    encoder_id: str
    source: str  # or several domains in the data set's order, art+photo
    target: str
    variant: str
    seed: int
    templates: tuple[str, ...]
    options: MethodSpec
    protocol: str = "transductive"  # or inductive: learn from the target's train rows, score its test rows
    method: str = UNIMOS  # or another of runs.method_names; its variant is then empty, its options the defaults
    label_set: str = ""  # for auto: closed (the target has every class) or partial; empty: not said
    calibrate: bool = False  # by one temperature, fitted to held-out source answers

    @property
    def name(self) -> str:
        """UniMoS's variant, or the other method's name."""
        return self.variant if self.method == UNIMOS else self.method

    @property
    def changed(self) -> dict[str, Any]:
        """The options that set the run apart from its variant's plain run, by dotted name in the options' order."""
        return changed_options(self.options, method_spec(self.variant)) if self.method == UNIMOS else {}

    def label(self) -> str:
        """``no-im``, ``fused`` or ``full,inductive,alpha=0.1``: the run's part in a table, and its folder's name."""
        class_part = [f"{self.label_set}-set"] if self.label_set else []
        protocol = ["inductive"] if self.protocol == "inductive" else []
        changed = (f"{key.rpartition('.')[2]}={value}" for key, value in self.changed.items())
        return ",".join([self.name, *class_part, *protocol, *changed])

    def folder(self, runs: Path) -> Path:
        """Where the run lives below a runs folder."""
        pair = f"{self.source}-{self.target}"
        return runs / self.dataset / self.encoder_id / pair / self.label() / f"seed{self.seed}"


def row_names(specs: Sequence[RunSpec]) -> list[str]:
    """For each of the runs of one table, what sets it apart: ``fused``, ``no-im``, or ``full,alpha=1.0`` of a grid.

    As :meth:`RunSpec.label`, but with the options that vary between the runs, at their defaults or not, and no others.
    Among other methods UniMoS's rows begin with its name.
    """
    several = len({spec.method for spec in specs}) > 1
    changed = {name for spec in specs for name in spec.changed}
    options = [name for name, _ in option_fields(MethodSpec) if name in changed]
    unimos_specs = [spec for spec in specs if spec.method == UNIMOS]
    varied = [name for name in options if len({_get_option(spec.options, name) for spec in unimos_specs}) > 1]
    protocols = len({spec.protocol for spec in specs}) > 1
    names = []
    for spec in specs:
        parts = [spec.protocol] if protocols else []
        if spec.method == UNIMOS:
            parts += [f"{name.rpartition('.')[2]}={_get_option(spec.options, name)}" for name in varied]
        name = ",".join([spec.name, *parts])
        names.append(method_display_name(name) if several and spec.method == UNIMOS else display_name(name))
    return names


def method_display_name(name: str) -> str:
    """A row of UniMoS as it is called beside other methods: ``UniMoS`` of ``full``, ``UniMoS, no-im`` of ``no-im``."""
    variant, *rest = name.split(",")
    return ", ".join([UNIMOS_NAME, *([] if variant == "full" else [display_name(variant)]), *rest])


def changed_options(method: MethodSpec, other: MethodSpec) -> dict[str, Any]:
    """The options of ``method`` whose values ``other`` does not have, by dotted name in the options' order."""
    names = [name for name, _ in option_fields(MethodSpec)]
    return {name: _get_option(method, name) for name in names if _get_option(method, name) != _get_option(other, name)}


def _get_option(method: MethodSpec, name: str) -> Any:
    section, _, key = name.partition(".")
    return getattr(getattr(method, section), key)


def run_identity(spec: RunSpec, shard_digests: Mapping[str, list[str]], metric: str) -> str:
    """Equal identity, equal run: what may be kept instead of being trained again.

    Of the options only those that differ from the defaults enter, so that a new option leaves finished runs alone, and
    not the variant's name, which stands for options. What is UniMoS's as ever has no entry, for the same reason.
    ``metric`` is the data set's, by which the best epoch is chosen.
    """
    method_entries = {} if spec.method == UNIMOS else {"method": spec.method, "label_set": spec.label_set}
    method_entries |= {"calibrate": True} if spec.calibrate else {}
    return fingerprint(
        {
            **method_entries,
            "arithmetic": ARITHMETIC,
            "options": changed_options(spec.options, MethodSpec()),
            "dataset": spec.dataset,
            "encoder_id": spec.encoder_id,
            "source": spec.source,
            "target": spec.target,
            "seed": spec.seed,
            "templates": spec.templates,
            "protocol": spec.protocol,
            "metric": metric,
            "shards": dict(shard_digests),
        }
    )
