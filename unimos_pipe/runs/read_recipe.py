"""Recipes read by name or from TOML and JSON files, and checked as a whole."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unimos_pipe.base.dataclass_parsing import collect_dataclass_errors
from unimos_pipe.base.errors import InputError, ReadError, suggestions
from unimos_pipe.base.safe_open import MAX_SETTINGS_BYTES, read_text
from unimos_pipe.data.dataset_spec import PACKAGE, DatasetSpec, load_spec
from unimos_pipe.runs.recipe import Recipe
from unimos_pipe.runs.recipe_checks import find_recipe_faults

RECIPE_FOLDERS = (PACKAGE / "pipelines", PACKAGE.parent / "pipelines")  # installed wheel, checkout


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
        problems += find_recipe_faults(recipe, spec)
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
