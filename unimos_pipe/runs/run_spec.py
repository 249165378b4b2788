"""Run specs, and the folder, label and identity derived from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unimos_pipe.base.dataclass_parsing import fingerprint, option_fields
from unimos_pipe.base.method_config import MethodSpec, display_name, method_spec
from unimos_pipe.runs.method_names import UNIMOS, UNIMOS_NAME
from unimos_pipe.runs.unknown_option import AUTO_SHARE, OFF

# Increased when a default of MethodSpec or a result of equal options changes; finished runs are then trained again.
RESULTS_VERSION = 6
CALIBRATION_HOLDOUT = 0.2  # share of the source rows


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """Inputs of a run except its shards. ``variant`` and ``options`` apply to UniMoS only."""

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
    label_set: str = ""  # for auto: closed (the target has every class) or partial; empty: unknown
    calibrate: bool = False  # by a temperature, see runs.run_values.Calibration
    settings: tuple[tuple[str, Any], ...] = ()  # of a method from outside the package: those that are not the defaults
    use_target_labels: bool = False  # labelled target rows teach, and are not scored
    unknown: str = OFF  # whether rows of no class are looked for: off, auto, or their share as a text

    @property
    def name(self) -> str:
        """UniMoS's variant, or the name of the other method."""
        return self.variant if self.method == UNIMOS else self.method

    @property
    def changed(self) -> dict[str, Any]:
        """Options that differ from the variant's defaults, by dotted name in the order of the options."""
        if self.method == UNIMOS:
            return changed_options(self.options, method_spec(self.variant))
        return {f"{self.method}.{name}": value for name, value in self.settings}

    def label(self) -> str:
        """Return ``no-im``, ``fused`` or ``full,inductive,alpha=0.1``: the run's row in a table and its folder name."""
        class_part = [f"{self.label_set}-set"] if self.label_set else []
        protocol = [] if self.protocol == "transductive" else [self.protocol]
        changed = (f"{key.rpartition('.')[2]}={value}" for key, value in self.changed.items())
        unknown = (
            [] if self.unknown == OFF else ["unknown" if self.unknown == AUTO_SHARE else f"unknown={self.unknown}"]
        )
        taught = ["target-labels"] if self.use_target_labels else []
        return ",".join([self.name, *class_part, *protocol, *taught, *unknown, *changed])

    def folder(self, runs: Path) -> Path:
        """Return the run's folder below a runs folder."""
        pair = f"{self.source}-{self.target}"
        return runs / self.dataset / self.encoder_id / pair / self.label() / f"seed{self.seed}"


def row_names(specs: Sequence[RunSpec]) -> list[str]:
    """Return the names of runs in one table: ``fused``, ``no-im``, or ``full,alpha=1.0`` in a grid.

    As :meth:`RunSpec.label`, but with exactly the options that vary between the runs. If there are several methods, the
    rows of UniMoS begin with its name.
    """
    several = len({spec.method for spec in specs}) > 1
    changed = {name for spec in specs for name in spec.changed}
    options = [name for name, _ in option_fields(MethodSpec) if name in changed]
    unimos_specs = [spec for spec in specs if spec.method == UNIMOS]
    varied = [name for name in options if len({_get_option(spec.options, name) for spec in unimos_specs}) > 1]
    names = []
    for spec in specs:
        values = [f"{name}={value}" for name, value in spec.settings]
        if spec.method == UNIMOS:
            values = [f"{name.rpartition('.')[2]}={_get_option(spec.options, name)}" for name in varied]
        name = ",".join([spec.name, *values])
        names.append(method_display_name(name) if several and spec.method == UNIMOS else display_name(name))
    return names


def method_display_name(name: str) -> str:
    """Return the name of a UniMoS row among other methods: ``UniMoS`` for ``full``, ``UniMoS, no-im`` for ``no-im``."""
    variant, *rest = name.split(",")
    return ", ".join([UNIMOS_NAME, *([] if variant == "full" else [display_name(variant)]), *rest])


def changed_options(method: MethodSpec, other: MethodSpec) -> dict[str, Any]:
    """Return the options of ``method`` that differ from ``other``, by dotted name in the order of the options."""
    names = [name for name, _ in option_fields(MethodSpec)]
    return {name: _get_option(method, name) for name in names if _get_option(method, name) != _get_option(other, name)}


def _get_option(method: MethodSpec, name: str) -> Any:
    section, _, key = name.partition(".")
    return getattr(getattr(method, section), key)


def calibration_options(options: MethodSpec) -> MethodSpec:
    """Return the options of the run that holds out source rows to fit a run's temperature."""
    return replace(options, train=replace(options.train, source_holdout=CALIBRATION_HOLDOUT))


def run_identity(
    spec: RunSpec, shard_digests: Mapping[str, list[str]], metric: str, raised_steps: Sequence[int | None] = ()
) -> str:
    """Return the identity of a run: a finished run of equal identity is reused instead of trained again.

    Only options that differ from the defaults enter, so that a new option leaves finished runs valid. The variant's
    name does not enter, since it stands for options. Fields that only other methods have do not enter for UniMoS.
    ``train.min_steps`` enters only where it raises the steps per epoch: elsewhere it changes nothing.

    Args:
        metric: the data set's metric, by which the best epoch is selected.
        raised_steps: the steps per epoch of the run, and of its calibration run, where ``train.min_steps`` raises them.
    """
    options = changed_options(spec.options, MethodSpec())
    options.pop("train.min_steps", None)
    options |= {"train.min_steps": list(raised_steps)} if any(raised_steps) else {}
    method_entries = {} if spec.method == UNIMOS else {"method": spec.method, "label_set": spec.label_set}
    method_entries |= {"calibrate": True} if spec.calibrate else {}
    method_entries |= {"settings": dict(spec.settings)} if spec.settings else {}
    method_entries |= {"use_target_labels": True} if spec.use_target_labels else {}
    method_entries |= {"unknown": spec.unknown} if spec.unknown != OFF else {}
    return fingerprint(
        {
            **method_entries,
            "arithmetic": RESULTS_VERSION,
            "options": options,
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
