"""What shapes a run, the name that follows from it, and the identity by which a finished run is known again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unimos_pipe.base.config import MethodSpec, fingerprint, method_spec, option_fields, titled

# Raised whenever a default of MethodSpec or a result of equal options changes: finished runs are then trained again.
ARITHMETIC = 2


@dataclass(frozen=True)
class RunSpec:
    """Everything that shapes a run but the shards it reads."""

    dataset: str
    encoder_id: str
    source: str  # or several domains in the data set's order, art+photo
    target: str
    variant: str
    seed: int
    templates: tuple[str, ...]
    method: MethodSpec
    protocol: str = "transductive"  # or inductive: learn from the target's train rows, score its test rows

    @property
    def changed(self) -> dict[str, Any]:
        """The options that set the run apart from its variant's plain run, by dotted name in the options' order."""
        return differing(self.method, method_spec(self.variant))

    def label(self) -> str:
        """``no-im`` or ``full,inductive,alpha=0.1``: the run's part in a table, and its folder's name."""
        protocol = ["inductive"] if self.protocol == "inductive" else []
        changed = (f"{key.rpartition('.')[2]}={value}" for key, value in self.changed.items())
        return ",".join([self.variant, *protocol, *changed])

    def folder(self, runs: Path) -> Path:
        """Where the run lives below a runs folder."""
        pair = f"{self.source}-{self.target}"
        return runs / self.dataset / self.encoder_id / pair / self.label() / f"seed{self.seed}"


def row_names(specs: Sequence[RunSpec]) -> list[str]:
    """For each of the runs of one table, what sets it apart there: ``no-im``, or ``full,alpha=1.0,beta=0.1`` of a grid.

    As :meth:`RunSpec.label`, but with the options that vary between the runs, at their defaults or not, and no others.
    """
    changed = {name for spec in specs for name in spec.changed}
    options = [name for name, _ in option_fields() if name in changed]
    varied = [name for name in options if len({_value(spec.method, name) for spec in specs}) > 1]
    protocols = len({spec.protocol for spec in specs}) > 1
    names = []
    for spec in specs:
        parts = [spec.protocol] if protocols else []
        parts += [f"{name.rpartition('.')[2]}={_value(spec.method, name)}" for name in varied]
        names.append(titled(",".join([spec.variant, *parts])))
    return names


def differing(method: MethodSpec, other: MethodSpec) -> dict[str, Any]:
    """The options of ``method`` whose values ``other`` does not have, by dotted name in the options' order."""
    names = [name for name, _ in option_fields()]
    return {name: _value(method, name) for name in names if _value(method, name) != _value(other, name)}


def _value(method: MethodSpec, name: str) -> Any:
    section, _, key = name.partition(".")
    return getattr(getattr(method, section), key)


def run_identity(spec: RunSpec, shard_digests: Mapping[str, list[str]], metric: str) -> str:
    """Equal identity, equal run: what may be kept instead of being trained again.

    Of the options only those that differ from the defaults enter, so that a new option leaves finished runs alone, and
    not the variant's name, which stands for options. ``metric`` is the data set's, by which the best epoch is chosen.
    """
    return fingerprint(
        {
            "arithmetic": ARITHMETIC,
            "options": differing(spec.method, MethodSpec()),
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
