"""Cache maintenance as Python functions: list, verify, find prunable items, prune."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from unimos_pipe.base.encoder_presets import find_encoder
from unimos_pipe.base.errors import join_names
from unimos_pipe.base.progress import NO_PROGRESS, ProgressReporter
from unimos_pipe.base.safe_open import list_folder, read_json, walk_files
from unimos_pipe.cache.cache_paths import ENCODER_FOLDER, default_cache
from unimos_pipe.cache.encoder_identity import readable_name
from unimos_pipe.cache.maintenance import (
    CacheEntry,
    PrunableItem,
    damaged_imports,
    find_prunable_items,
    list_entries,
    remove_if_unused,
    verify_entry,
)
from unimos_pipe.runs.read_recipe import known_recipes, load_recipe


def list_cache(cache: Path | None = None) -> list[CacheEntry]:
    """List every domain's and encoder's folder; None: ``$UNIMOS_CACHE``, otherwise the user's cache folder."""
    return list_entries(cache or default_cache())


@dataclass(frozen=True)
class VerifyResult:
    """The verified entries, and their problems, one line each."""

    entries: tuple[CacheEntry, ...]
    problems: tuple[str, ...]


def verify_cache(
    cache: Path | None = None, dataset: str | None = None, *, reporter: ProgressReporter = NO_PROGRESS
) -> VerifyResult:
    """Check every shard: digest, shapes, norms, rows, and that it lies where it belongs.

    Args:
        cache: None takes ``$UNIMOS_CACHE``, else the user's cache folder.
        dataset: only this data set's, by name.
    """
    entries = [entry for entry in list_cache(cache) if dataset in (None, entry.dataset)]
    problems: list[str] = []
    with reporter.progress("verify", len(entries), "folders") as advance:
        for entry in entries:
            problems += verify_entry(entry)
            advance(1)
    return VerifyResult(tuple(entries), tuple(problems))


def find_prunable(
    cache: Path | None = None,
    runs: Path = Path("runs"),
    recipes: Sequence[str] = (),
    imported: Sequence[str] = (),
    *,
    reporter: ProgressReporter = NO_PROGRESS,
) -> list[PrunableItem]:
    """Damaged shards, leftovers of killed writers, and features that no recipe or run needs; removes nothing.

    Args:
        cache: None takes ``$UNIMOS_CACHE``, else the user's cache folder.
        runs: runs whose features stay.
        recipes: files of recipes whose features stay, beside those that come with the package.
        imported: encoder-ids of imported features whose damaged shards may go; nothing can make them again.
    Raises:
        InputError: a recipe that cannot be read.
        ReadError: anything else that cannot be read, of which nothing is known.
    """
    cache = cache or default_cache()
    needed, count = find_needed_features(cache, runs, recipes)
    reporter.note(
        f"needed by {count} run(s) in {runs} and {len(known_recipes())} recipe(s) of the package"
        f"{f', and by {join_names(recipes)}' if recipes else ''}; runs in other folders are not known: "
        "name the folder that holds them"
    )
    if kept := damaged_imports(cache, imported):
        names = join_names(sorted({path.parents[1].name for path in kept}))
        reporter.warn(
            "damaged or replaced shards of imported features are kept, as nothing can make them again: "
            f"{join_names(path.relative_to(cache) for path in kept)}. Import them again; "
            f"pruning with {names} named as imported removes them"
        )
    return find_prunable_items(cache, needed, imported)


def prune_cache(items: Sequence[PrunableItem], cache: Path | None = None) -> list[Path]:
    """Remove the items of :func:`find_prunable`; return those in use by another process, which are left alone."""
    return [item.path for item in items if not remove_if_unused(cache or default_cache(), item)]


def find_needed_features(cache: Path, runs: Path, recipes: Sequence[str]) -> tuple[set[tuple[str, str]], int]:
    """Return the (data set, encoder-id) of the features that runs and recipes read, and the number of runs."""
    needed, count = set(), 0
    for config in (path for path in walk_files(runs) if path.name == "config.json"):
        try:
            spec = read_json(config)["spec"]
            needed.add((str(spec["dataset"]), str(spec["encoder_id"])))
            count += 1
        except (ValueError, LookupError, TypeError, RecursionError):  # not a run's, or a damaged one
            needed |= {(one, two) for one, two in pairwise(config.parts) if ENCODER_FOLDER.fullmatch(two)}
    for name in (*known_recipes(), *recipes):
        recipe, dataset = load_recipe(name)
        prefix = readable_name(replace(find_encoder(recipe.encoder or dataset.encoder), views=recipe.views))
        for path in list_folder(cache / dataset.cache_name):
            match = ENCODER_FOLDER.fullmatch(path.name)
            if match and path.name == f"{prefix}_{match[1]}-{match[2]}":
                needed.add((dataset.cache_name, path.name))
    return needed, count
