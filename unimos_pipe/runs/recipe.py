"""Recipes: experiments with pairs, seeds, methods, variants and grids, and the runs that they stand for."""

import itertools
import math
from dataclasses import dataclass, field, replace
from typing import Any

from unimos_pipe.base.dataclass_parsing import option
from unimos_pipe.base.errors import InputError, short_repr
from unimos_pipe.base.method_config import DEFAULT_TEMPLATE, DEFAULT_VIEWS, method_spec
from unimos_pipe.data.dataset_spec import PROTOCOLS, DatasetSpec
from unimos_pipe.runs.method_names import AUTO, LABEL_SETS, METHODS, UNIMOS, is_seeded, parse_method_settings
from unimos_pipe.runs.run_spec import RunSpec
from unimos_pipe.runs.unknown_option import OFF

LEAVE_ONE_OUT = "leave-one-out"  # each domain as the target of all others together
MAX_RUNS = 100_000  # per recipe; all runs are planned before the first one starts


@dataclass(frozen=True)
class Recipe:
    """One experiment. ``options`` holds tables of :class:`MethodSpec` fields, ``grid`` lists by dotted option name."""

    name: str
    dataset: str
    title: str = ""
    encoder: str = ""  # preset; empty = the data set's own
    views: tuple[str, ...] = DEFAULT_VIEWS  # of each image; their features are averaged
    pairs: tuple[str, ...] = ("all",)  # or "leave-one-out", or "art->clipart", "art+photo->clipart", ...
    seeds: int = option(3, "seeds 0, 1, ... per pair", low=1)
    methods: tuple[str, ...] = (UNIMOS,)  # variants: UniMoS's; options, grid and seeds: also of outside methods
    variants: tuple[str, ...] = ("full",)
    label_set: str = option("", "for auto: whether source and target share all classes", choices=("", *LABEL_SETS))
    calibrate: bool = False  # UniMoS: by a run per pair and configuration; others: to the estimated accuracy
    use_target_labels: bool = False  # labels of target rows teach, too
    unknown: str = OFF  # off, auto or a share: whether rows of none of the classes are looked for
    templates: tuple[str, ...] = (DEFAULT_TEMPLATE,)
    descriptions: str = ""  # JSON file of sentences by class, in the place of templates
    protocol: str = option("", "empty = the data set's own", choices=("", *PROTOCOLS))
    published_table: str = ""  # where paper_results.toml has the published figures
    select: str = ""  # validator that selects the headline's configuration of a grid
    options: dict = field(default_factory=dict)
    grid: dict = field(default_factory=dict)

    def domain_pairs(self, spec: DatasetSpec) -> list[tuple[str, str]]:
        """Return the (source, target) pairs; "all" in the spec's order of domains. A source may be ``art+photo``."""
        if self.pairs == ("all",):
            return list(itertools.permutations(spec.domains, 2))
        if self.pairs == (LEAVE_ONE_OUT,):
            return [("+".join(name for name in spec.domains if name != target), target) for target in spec.domains]
        return [_parse_pair(text, list(spec.domains)) for text in self.pairs]

    def domains(self, spec: DatasetSpec) -> list[str]:
        """Return the domains of the pairs, in the spec's order."""
        used = {name for pair in self.domain_pairs(spec) for side in pair for name in side.split("+")}
        return [name for name in spec.domains if name in used]

    def grid_cells(self, method: str = UNIMOS) -> list[dict[str, Any]]:
        """Return the settings of each configuration of a method's part of the grid; one without settings if empty.

        The part of a method from outside the package are the options NAME.key.
        """
        own = {name: values for name, values in self.grid.items() if self.belongs_to(method, name)}
        return [dict(zip(own, values, strict=True)) for values in itertools.product(*own.values())]

    def options_of(self, method: str) -> dict[str, Any]:
        """Return the options of UniMoS, or the settings of a method from outside the package, by dotted name."""
        own = {section: table for section, table in self.options.items() if self.belongs_to(method, section)}
        return {f"{section}.{key}": value for section, table in own.items() for key, value in table.items()}

    def belongs_to(self, method: str, name: str) -> bool:
        """Return whether an option or table belongs to UniMoS or to a method from outside the package."""
        section, outside = name.partition(".")[0], {*self.methods} - {*METHODS}
        return section == method if method in outside else method == UNIMOS and section not in outside

    def count_runs(self, spec: DatasetSpec) -> int:
        """Return the number of runs of the recipe, without listing them."""
        per_pair = 0
        for method in self.methods:
            cells = math.prod(len(values) for name, values in self.grid.items() if self.belongs_to(method, name))
            variants = len(self.variants) if method == UNIMOS else 1
            per_pair += cells * variants * (self.seeds if is_seeded(method) else 1)
        return per_pair * len(self.domain_pairs(spec))

    def with_native_logit_scale(self, scale: float | None) -> "Recipe":
        """Return the recipe with an encoder's own learned 1/T (None: CLIP's), unless the recipe sets one."""
        if not scale:
            return self
        heads = {"temperature_scale": scale, **self.options.get("heads", {})}
        return replace(self, options={**self.options, "heads": heads})

    def runs(self, spec: DatasetSpec, encoder_id: str) -> list[RunSpec]:
        """Return every run: by method; UniMoS by variant, configuration, pair and seed, other methods by pair.

        Raises:
            InputError: more than :data:`MAX_RUNS` runs.
        """
        if fault := find_size_fault(self, spec):
            raise InputError(f"recipe {self.name}: {fault}")
        runs = []
        for method in self.methods:
            runs += (
                self._unimos_runs(spec, encoder_id)
                if method == UNIMOS
                else self._runs_of_method(method, spec, encoder_id)
            )
        return runs

    def _runs_of_method(self, method: str, spec: DatasetSpec, encoder_id: str) -> list[RunSpec]:
        """Return the runs of a method other than UniMoS: one per pair; from outside also by configuration and seed."""
        return [
            RunSpec(
                **self._shared_fields(spec, encoder_id),
                source=source,
                target=target,
                variant="",
                seed=seed,
                options=method_spec(),
                method=method,
                label_set=self.label_set if method == AUTO else "",
                settings=settings,
            )
            for cell in self.grid_cells(method)
            for settings in [parse_method_settings(method, {**self.options_of(method), **cell}, [])]
            for source, target in self.domain_pairs(spec)
            for seed in range(self.seeds if is_seeded(method) else 1)
        ]

    def _unimos_runs(self, spec: DatasetSpec, encoder_id: str) -> list[RunSpec]:
        shared = self._shared_fields(spec, encoder_id)
        base = self.options_of(UNIMOS)
        return [
            RunSpec(**shared, source=source, target=target, variant=variant, seed=seed, options=options)
            for variant in self.variants
            for cell in self.grid_cells()
            for options in [method_spec(variant, {**base, **cell}, f"recipe {self.name}")]
            for source, target in self.domain_pairs(spec)
            for seed in range(self.seeds)
        ]

    def _shared_fields(self, spec: DatasetSpec, encoder_id: str) -> dict[str, Any]:
        """Return the fields of :class:`RunSpec` that are equal for all runs."""
        return {
            "dataset": spec.name,
            "encoder_id": encoder_id,
            "templates": self.templates,
            "protocol": spec.protocol(self.protocol or None),
            "calibrate": self.calibrate,
            "use_target_labels": self.use_target_labels,
            "unknown": self.unknown,
        }


def _parse_pair(text: str, domains: list[str]) -> tuple[str, ...]:
    """Return the sides of ``source->target``, the domains of each in the order of ``domains``; unknown ones last."""
    sides = ([name.strip() for name in side.split("+")] for side in text.split("->"))
    positions = {name: position for position, name in enumerate(domains)}
    return tuple("+".join(sorted(side, key=lambda name: positions.get(name, len(positions)))) for side in sides)


def find_size_fault(recipe: Recipe, spec: DatasetSpec) -> str | None:
    """Return what is wrong with the number of runs of a recipe; None if they are at most :data:`MAX_RUNS`."""
    if (count := recipe.count_runs(spec)) <= MAX_RUNS:
        return None
    return f"{short_repr(count)} runs (pairs x seeds x variants x grid): expected at most {MAX_RUNS}"
