"""Finished runs below folders, grouped into experiments. Reading needs no torch and changes no run."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from unimos_pipe.base.errors import InputError, join_names
from unimos_pipe.base.renamed import RENAMED
from unimos_pipe.base.safe_open import read_json, walk_files
from unimos_pipe.data.dataset_spec import find_spec_files, load_spec
from unimos_pipe.report.experiment import Experiment
from unimos_pipe.report.setting_names import shorten_paths
from unimos_pipe.runs.method_names import UNIMOS
from unimos_pipe.runs.read_run import FinishedRun, RunFolderError, read_run
from unimos_pipe.runs.write_run import CONFIG


def find_runs(paths: Sequence[Path]) -> tuple[list[Experiment], list[str]]:
    """Read the finished runs in or below folders.

    Returns:
        The experiments, and a line with the reason for each folder that was skipped.
    Raises:
        InputError: a path that is not a folder, no finished run, or two runs with the same pair, label and seed.
    """
    experiments: dict[tuple, Experiment] = {}
    folders: dict[tuple, Path] = {}
    skipped = []
    for folder in _run_folders(paths):
        try:
            run = read_run(folder)
        except RunFolderError as error:
            skipped.append(f"{folder}: {error.reason}")
            continue
        root = _infer_root(run)
        key = root, run.spec.dataset, run.spec.encoder_id, bool(run.result.accuracy), run.classes
        run_key = *key, run.pair, run.label, run.spec.seed
        if run_key in folders:
            description = f"{run.pair}, {run.label}, seed {run.spec.seed}"
            raise InputError(f"{folders[run_key]} and {folder} are both {description}; pass only one of them")
        folders[run_key] = folder
        if key not in experiments:
            experiments[key] = Experiment(root, [], _read_recipe(root / "recipe.json"), _read_baselines(root))
        experiments[key].runs.append(run)
    if not experiments:
        reasons = f" ({join_names(skipped, 3)})" if skipped else ""
        raise InputError(f"no finished run in {join_names(paths)}{reasons}; adapt, sweep and demo make runs")
    for experiment in experiments.values():
        _sort_runs(experiment)
    _disambiguate_titles(list(experiments.values()))
    return list(experiments.values()), skipped


def _disambiguate_titles(experiments: Sequence[Experiment]) -> None:
    """Add folders, and if needed models and labels, to titles that occur more than once."""
    titles = [experiment.title for experiment in experiments]
    for title in {title for title in titles if titles.count(title) > 1}:
        same = [experiment for experiment in experiments if experiment.title == title]
        folders = shorten_paths([experiment.root for experiment in same])
        class_lists = {experiment.runs[0].classes for experiment in same}
        for experiment, folder in zip(same, folders, strict=True):
            labels = "with labels" if experiment.labelled else "without labels"
            count = f", {len(experiment.runs[0].classes)} classes" if len(class_lists) > 1 else ""
            more = f", {experiment.model}{count}, {labels}" if folders.count(folder) > 1 else ""
            experiment.title_suffix = f" ({folder}{more})"


def _run_folders(paths: Iterable[Path]) -> list[Path]:
    folders: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            raise InputError(f"{path} is not a folder; pass the folder of a run, of a sweep, or one above several")
        for config in (file for file in walk_files(path) if file.name == CONFIG):
            folders.setdefault(config.parent.resolve(), config.parent)
    return list(folders.values())


def _infer_root(run: FinishedRun) -> Path:
    """Return the folder above ``<dataset>/<encoder>/<pair>/<label>/seed<k>``, else the parent of the run's folder."""
    spec = run.spec
    tail = Path(spec.dataset, spec.encoder_id, f"{spec.source}-{spec.target}", run.label)
    folder = run.folder.resolve()
    if folder.parts[-5:] == (*tail.parts, f"seed{spec.seed}"):
        return folder.parents[4]
    return folder.parent


def _read_optional_json(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path) if path.is_file() else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _read_recipe(path: Path) -> dict[str, Any]:
    """Read a sweep's recipe; entries of a wrong type are dropped."""
    recipe = {RENAMED.get(name, name): value for name, value in _read_optional_json(path).items()}
    expected_types = {"variants": list, "methods": list, "options": dict, "grid": dict}
    valid = {name: value for name, value in recipe.items() if isinstance(value, expected_types.get(name, object))}
    if not all(isinstance(table, dict) for table in valid.get("options", {}).values()):
        del valid["options"]
    return valid


def _read_baselines(root: Path) -> dict[str, float]:
    """Read pair -> accuracy of source-probe, as the sweep stored it."""
    source_only = {
        pair: values.get("source_only")
        for pair, values in _read_optional_json(root / "baselines.json").items()
        if isinstance(values, dict)
    }
    return {pair: value for pair, value in source_only.items() if isinstance(value, float)}


def _sort_runs(experiment: Experiment) -> None:
    """Sort runs by method and variant (order of the recipe), option values, pair (order of domains) and seed."""
    variants = list(experiment.recipe.get("variants", [])) or ["full"]
    methods = list(experiment.recipe.get("methods", [])) or [UNIMOS]
    spec_path = find_spec_files().get(experiment.dataset)
    domains = list(load_spec(str(spec_path)).domains) if spec_path else []
    options = list(dict.fromkeys(name for run in experiment.runs for name in run.spec.changed))

    def rank(items: list[str], item: str) -> tuple[int, str]:
        return items.index(item) if item in items else len(items), item

    experiment.runs.sort(
        key=lambda run: (
            rank(methods, run.method),
            rank(variants, run.spec.variant),
            [(type(value).__name__, value) for value in map(run.option, options) if value is not None],
            rank(domains, run.spec.source),
            rank(domains, run.spec.target),
            run.spec.seed,
        )
    )
