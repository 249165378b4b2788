"""Checks of a recipe as a whole: its names, options, grid, pairs and number of runs."""

import contextlib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

from unimos_pipe.base.dataclass_parsing import collect_dataclass_errors, nest_settings
from unimos_pipe.base.encoder_presets import encoder_names
from unimos_pipe.base.errors import InputError, join_names, short_repr, suggestions
from unimos_pipe.base.method_config import DEFAULT_TEMPLATE, VARIANTS, EncoderSpec, MethodSpec, setting_fields
from unimos_pipe.data.dataset_spec import OPEN_PROTOCOLS, DatasetSpec
from unimos_pipe.data.prompts import build_prompts
from unimos_pipe.runs.method_names import (
    AUTO,
    METHODS,
    UNIMOS,
    labels_fault,
    method_names,
    parse_method_settings,
    protocol_fault,
)
from unimos_pipe.runs.published_results import load_published_rows
from unimos_pipe.runs.recipe import LEAVE_ONE_OUT, Recipe, find_size_fault
from unimos_pipe.runs.unknown_option import unknown_fault
from unimos_pipe.runs.validator_names import selection_fault


def find_recipe_faults(recipe: Recipe, spec: DatasetSpec | None) -> list[str]:
    """Return all faults of a recipe; those that need its data set only if ``spec`` is not None."""
    faults: list[str] = []
    if not recipe.name or not recipe.name.replace("_", "").replace("-", "").isalnum():
        faults.append(f"name {recipe.name!r}: expected letters, digits, '-' and '_'")
    if recipe.encoder and recipe.encoder not in encoder_names():
        faults.append(f"unknown encoder {recipe.encoder!r} ({suggestions(recipe.encoder, encoder_names(), 8)})")
    try:
        EncoderSpec(views=recipe.views)
    except InputError as error:
        faults.append(str(error))
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
        faults += [fault] if (fault := find_size_fault(recipe, spec)) else []
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
        lambda: recipe.descriptions and _check_descriptions(recipe, spec),
    ):
        try:
            check()
        except InputError as error:
            faults.append(str(error))
    return faults


def _check_descriptions(recipe: Recipe, spec: DatasetSpec) -> None:
    """Raise InputError if the file cannot be read, or the recipe has other templates than that of its sentences."""
    from unimos_pipe.data.descriptions import read_descriptions  # it takes a while

    template = read_descriptions(Path(recipe.descriptions), spec).template
    if recipe.templates not in ((DEFAULT_TEMPLATE,), (template,)):
        raise InputError(
            f"templates beside descriptions {recipe.descriptions}",
            expected=f"none, or {template} of its sentences",
            got=join_names(recipe.templates),
        )


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
