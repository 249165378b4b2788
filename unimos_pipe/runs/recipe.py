"""Recipes: experiments as TOML files, with pairs, seeds, methods, variants and grids, validated as a whole."""

import contextlib
import itertools
import json
import math
import tomllib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unimos_pipe.base.dataclass_parsing import collect_dataclass_errors, nest_settings, option
from unimos_pipe.base.encoder_presets import encoder_names
from unimos_pipe.base.errors import InputError, ReadError, join_names, short_repr, suggestions
from unimos_pipe.base.method_config import DEFAULT_TEMPLATE, VARIANTS, MethodSpec, method_spec, setting_fields
from unimos_pipe.base.safe_open import MAX_SETTINGS_BYTES, read_text
from unimos_pipe.data.dataset_spec import OPEN_PROTOCOLS, PACKAGE, PROTOCOLS, DatasetSpec, load_spec
from unimos_pipe.data.prompts import build_prompts
from unimos_pipe.runs.method_names import (
    AUTO,
    LABEL_SETS,
    METHODS,
    UNIMOS,
    is_seeded,
    labels_fault,
    method_names,
    parse_method_settings,
    protocol_fault,
)
from unimos_pipe.runs.published_results import load_published_rows
from unimos_pipe.runs.run_spec import RunSpec
from unimos_pipe.runs.unknown_option import OFF, unknown_fault
from unimos_pipe.runs.validator_names import selection_fault

LEAVE_ONE_OUT = "leave-one-out"  # each domain as the target of all others together
MAX_RUNS = 100_000  # per recipe; all runs are planned before the first one starts
RECIPE_FOLDERS = (PACKAGE / "pipelines", PACKAGE.parent / "pipelines")  # installed wheel, checkout


@dataclass(frozen=True)
class Recipe:
    """One experiment. ``options`` holds tables of :class:`MethodSpec` fields, ``grid`` lists by dotted option name."""

    name: str
    dataset: str
    title: str = ""
    encoder: str = ""  # preset; empty = the data set's own
    pairs: tuple[str, ...] = ("all",)  # or "leave-one-out", or "art->clipart", "art+photo->clipart", ...
    seeds: int = option(3, "seeds 0, 1, ... per pair", low=1)
    methods: tuple[str, ...] = (UNIMOS,)  # variants: UniMoS's; options, grid and seeds: also of outside methods
    variants: tuple[str, ...] = ("full",)
    label_set: str = option("", "for auto: whether source and target share all classes", choices=("", *LABEL_SETS))
    calibrate: bool = False  # UniMoS: by a run per pair and configuration; others: to the estimated accuracy
    use_target_labels: bool = False  # labels of target rows teach, too
    unknown: str = OFF  # off, auto or a share: whether rows of none of the classes are looked for
    templates: tuple[str, ...] = (DEFAULT_TEMPLATE,)
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
        if fault := _find_size_fault(self, spec):
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


def known_recipes() -> dict[str, Path]:
    """Return the recipes of the package, by name."""
    paths = [path for folder in RECIPE_FOLDERS if folder.is_dir() for path in sorted(folder.glob("*.toml"))]
    return {path.stem: path for path in reversed(paths)}


def load_recipe(name_or_path: str) -> tuple[Recipe, DatasetSpec]:
    """Read a recipe by name, from a ``.toml`` file or a sweep's ``recipe.json``, and its data set.

    Raises:
        InputError: unknown name (lists the known ones), an unreadable file, or all faults of the recipe.
    """
    recipes = known_recipes()
    path = Path(name_or_path) if name_or_path.endswith((".toml", ".json")) else recipes.get(name_or_path)
    if path is None:
        names = suggestions(name_or_path, sorted(recipes), 30)
        raise InputError(f"unknown recipe {name_or_path!r}; {names}; or give a .toml file")
    try:
        text = read_text(path, MAX_SETTINGS_BYTES)
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ReadError as error:
        raise error.of_input(f"recipe {path}: cannot be read: {error.reason}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"recipe {path}: cannot be read: {error}") from None
    return check_recipe(values, str(path))


def check_recipe(values: Mapping[str, Any], where: str) -> tuple[Recipe, DatasetSpec]:
    """Build a recipe from plain values. Raises InputError with all faults."""
    problems: list[str] = []
    if isinstance(values.get("grid"), Mapping):
        values = {**values, "grid": _flatten_grid(values["grid"], problems)}
    recipe = collect_dataclass_errors(Recipe, values, "", problems)
    spec = None
    if recipe is not None:
        try:
            spec = load_spec(recipe.dataset)
        except InputError as error:
            problems.append(str(error))
        problems += _find_faults(recipe, spec)
    if problems:
        raise InputError(f"{where}: " + "; ".join(problems))
    return recipe, spec


def _flatten_grid(grid: Mapping[str, Any], faults: list[str]) -> dict[str, Any]:
    """Return a grid by dotted names; ``loss.alpha`` may be written as ``alpha`` in a table ``loss``."""
    flat: dict[str, Any] = {}
    for name, choices in grid.items():
        inner = {f"{name}.{key}": value for key, value in choices.items()} if isinstance(choices, Mapping) else None
        entries = {name: choices} if inner is None else inner
        faults += [f"grid {key} is given twice" for key in entries if key in flat]
        flat |= entries
    return flat


def _find_faults(recipe: Recipe, spec: DatasetSpec | None) -> list[str]:
    faults: list[str] = []
    if not recipe.name or not recipe.name.replace("_", "").replace("-", "").isalnum():
        faults.append(f"name {recipe.name!r}: expected letters, digits, '-' and '_'")
    if recipe.encoder and recipe.encoder not in encoder_names():
        faults.append(f"unknown encoder {recipe.encoder!r} ({suggestions(recipe.encoder, encoder_names(), 8)})")
    faults += _find_method_faults(recipe)
    if unknown := [name for name in recipe.variants if name not in VARIANTS]:
        faults.append(f"unknown variant {join_names(unknown)} ({suggestions(unknown, VARIANTS, 8)})")
    faults += [f"variant {name} is listed twice" for name in _find_duplicates(recipe.variants)]
    faults += _find_option_faults(recipe)
    tables = {section: table for section, table in recipe.options.items() if isinstance(table, Mapping)}
    fixed = {name: variant for variant in recipe.variants for name in VARIANTS.get(variant, {})}
    settings = {f"{section}.{key}": value for section, table in tables.items() for key, value in table.items()}
    faults += [fault] if (fault := selection_fault(recipe.select, {**settings, **recipe.grid})) else []
    faults += [
        f"variant {fixed[name]} is defined by {name}; do not set it as well"
        for name in {**settings, **recipe.grid}
        if name in fixed
    ]
    if spec is not None:
        faults += _find_spec_faults(recipe, spec)
    if spec is not None and recipe.pairs not in (("all",), (LEAVE_ONE_OUT,)):
        faults += _find_pair_faults(recipe, spec)
    if spec is not None and all(isinstance(choices, list) for choices in recipe.grid.values()):
        faults += [fault] if (fault := _find_size_fault(recipe, spec)) else []
    return faults


def _find_option_faults(recipe: Recipe) -> list[str]:
    """Return the faults of the options and the grid, of UniMoS and of methods from outside the package."""
    faults: list[str] = []
    shared = {name: table for name, table in recipe.options.items() if recipe.belongs_to(UNIMOS, name)}
    collect_dataclass_errors(MethodSpec, shared, "options.", faults)
    outside = [name for name in recipe.methods if name not in METHODS and name in method_names()]
    for method in outside:
        table = recipe.options.get(method, {})
        if isinstance(table, Mapping):
            parse_method_settings(method, {f"{method}.{key}": value for key, value in table.items()}, faults)
        else:
            faults.append(f"options.{method}: expected a table, got {short_repr(table)}")
    options = {name: entry for method in ("", *outside) for name, entry in setting_fields(method)}
    for name, choices in recipe.grid.items():
        if name not in options:
            faults.append(f"unknown grid option {name} ({suggestions(name, options, 60)})")
        elif not isinstance(choices, list) or not choices:
            faults.append(f"grid {name}: expected a list of values, got {short_repr(choices)}")
        else:
            method = name.partition(".")[0]
            for value in choices:
                if method in outside:
                    parse_method_settings(method, {name: value}, faults)
                else:
                    collect_dataclass_errors(MethodSpec, nest_settings({name: value}), "grid ", faults)
            faults += [f"grid {name}: {short_repr(value)} is listed twice" for value in _find_duplicates(choices)]
    return faults


def _find_method_faults(recipe: Recipe) -> list[str]:
    faults = []
    if unknown := [name for name in recipe.methods if name not in method_names()]:
        faults.append(f"unknown method {join_names(unknown)} ({suggestions(unknown, method_names())})")
    faults += [f"method {name} is listed twice" for name in _find_duplicates(recipe.methods)]
    if UNIMOS not in recipe.methods:
        own, grid = (
            [name for name in table if recipe.belongs_to(UNIMOS, name)] for table in (recipe.options, recipe.grid)
        )
        changed = {"variants": recipe.variants != ("full",), "options": own, "grid": grid}
        names = [name for name, is_changed in changed.items() if is_changed]
        faults += [f"{join_names(names)}: only {UNIMOS} has such options, and it is not among methods"] if names else []
    if recipe.use_target_labels:
        if recipe.protocol in OPEN_PROTOCOLS:
            faults.append(f"use_target_labels: protocol {recipe.protocol} hides classes of the target")
        faults += [f"use_target_labels: {fault}" for name in recipe.methods if (fault := labels_fault(name))]
    faults += [fault] if (fault := unknown_fault(recipe.unknown)) else []
    if recipe.label_set and AUTO not in recipe.methods:
        faults.append(f"label_set: only {AUTO} asks for it, and it is not among methods")
    return faults


def _find_size_fault(recipe: Recipe, spec: DatasetSpec) -> str | None:
    if (count := recipe.count_runs(spec)) <= MAX_RUNS:
        return None
    return f"{short_repr(count)} runs (pairs x seeds x variants x grid): expected at most {MAX_RUNS}"


def _find_duplicates(items: Iterable[Any]) -> list[Any]:
    """Return the items that occur more than once, in order."""
    counts = Counter(item for item in items if isinstance(item, Hashable))
    return [item for item, count in counts.items() if count > 1]


def _find_spec_faults(recipe: Recipe, spec: DatasetSpec) -> list[str]:
    faults = []
    with contextlib.suppress(InputError):  # reported below
        protocol = spec.protocol(recipe.protocol or None)
        faults += [fault for name in recipe.methods if (fault := protocol_fault(name, protocol))]
    for check in (
        lambda: spec.protocol(recipe.protocol or None),
        lambda: recipe.published_table and load_published_rows(recipe.published_table, spec),
        lambda: build_prompts(recipe.templates, "word", spec.class_prompts()),
    ):
        try:
            check()
        except InputError as error:
            faults.append(str(error))
    return faults


def _find_pair_faults(recipe: Recipe, spec: DatasetSpec) -> list[str]:
    faults = []
    for pair, parts in zip(recipe.pairs, recipe.domain_pairs(spec), strict=True):
        if len(parts) != 2 or parts[0] == parts[1]:
            faults.append(f'pair {pair!r}: expected "source->target" with two domains')
            continue
        try:
            spec.parse_sources(*parts)
        except InputError as error:
            faults.append(f"pair {pair!r}: {error}")
    faults += [f"pair {'->'.join(parts)!r} is listed twice" for parts in _find_duplicates(recipe.domain_pairs(spec))]
    return faults
