"""Repeat finished runs from their folders and compare the results byte by byte."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from unimos_pipe.base.dataclass_parsing import parse_dataclass
from unimos_pipe.base.errors import InputError, join_names
from unimos_pipe.base.method_config import MethodSpec
from unimos_pipe.base.progress import NO_PROGRESS, ProgressReporter
from unimos_pipe.base.ray_cluster import ComputeConfig
from unimos_pipe.base.safe_open import MAX_ARRAY_BYTES, read_bytes
from unimos_pipe.cache.feature_set import feature_set
from unimos_pipe.experiments.run_plans import execute_plans, open_loader
from unimos_pipe.methods.method_code import method_code
from unimos_pipe.runs.method_names import parse_method_settings
from unimos_pipe.runs.read_run import FinishedRun, read_run
from unimos_pipe.runs.run_spec import RunSpec
from unimos_pipe.runs.run_values import RecordedSpec
from unimos_pipe.runs.source_digest import changed_modules
from unimos_pipe.runs.write_run import CONFIG, FILES, RESULT
from unimos_pipe.training.batched_training import PlannedRun


@dataclass(frozen=True)
class Repetition:
    """A run that was made again.

    Attributes:
        folder: of the first run.
        differing: names of the files whose bytes differ; ``result.json``, which holds times, is not compared.
        accuracy: the data set's figure of the first run and of the repetition, fractions; None without labels.
        error: why the run could not be repeated, or None.
        changed_code: modules of the method whose source has changed since the first run.
    """

    folder: Path
    differing: tuple[str, ...]
    accuracy: tuple[float | None, float | None]
    error: str | None = None
    changed_code: tuple[str, ...] = ()


def rerun(
    folders: Sequence[str | Path],
    *,
    dataset: str | None = None,
    cache: str | Path | None = None,
    reporter: ProgressReporter = NO_PROGRESS,
) -> list[Repetition]:
    """Repeat every finished run in or below folders, each with the threads that it had, and compare the bytes.

    The first runs stay as they are; the repetitions go to a temporary folder. On a CPU a run does not depend on the
    stack that it trained in, so each is repeated alone.

    Args:
        folders: of runs, of sweeps, or of many.
        dataset: path of the spec, for a data set of your own.
        cache: None takes ``$UNIMOS_CACHE``, else the user's cache folder.
    Raises:
        InputError: no finished run, or features that are no longer those that a run read.
    """
    paths = [path.parent for folder in folders for path in sorted(Path(folder).rglob(CONFIG)) if _is_finished(path)]
    if not paths:
        raise InputError(f"no finished run in {join_names(map(str, folders))}")
    threads = torch.get_num_threads()
    repetitions = []
    try:
        with reporter.progress("rerun", len(paths), "runs") as advance, tempfile.TemporaryDirectory() as scratch:
            for number, path in enumerate(paths):
                run = read_run(path)
                torch.set_num_threads(run.config.environment.get("threads", threads))
                repetitions.append(_repeat(run, dataset, cache, Path(scratch) / str(number)))
                advance(1)
    finally:
        torch.set_num_threads(threads)
    return repetitions


def _is_finished(config: Path) -> bool:
    return (config.parent / RESULT).is_file()


def _repeat(run: FinishedRun, dataset: str | None, cache: str | Path | None, folder: Path) -> Repetition:
    spec = read_spec(run.spec)
    features = feature_set(dataset or spec.dataset, templates=spec.templates, cache=cache, encoder_id=spec.encoder_id)
    plan = PlannedRun(spec, folder)
    device = run.config.environment.get("device", "auto")
    loader = open_loader([plan], features.store(), device)
    data = plan.load_data(loader)
    if changed := [
        name for name in data.shard_digests if tuple(data.shard_digests[name]) != run.config.shards.get(name)
    ]:
        raise InputError(f"{run.folder}: the features of {join_names(changed)} are no longer those that it read")
    (result,), _ = execute_plans(
        [plan],
        loader,
        "",
        compute=ComputeConfig(device),
        reporter=NO_PROGRESS,
        keep_finished=False,
        choose_threads=False,  # it has those of the run's environment
    )
    code = method_code(spec.method, tuple(dict(spec.options.loss.extra)))
    changed_code = tuple(changed_modules(run.config.code or {}, code))
    if result.error:
        return Repetition(run.folder, (), (run.score("last"), None), result.error, changed_code)
    names = [name for name in FILES if name != RESULT]
    differing = tuple(
        name
        for name in names
        if read_bytes(folder / name, MAX_ARRAY_BYTES) != read_bytes(run.folder / name, MAX_ARRAY_BYTES)
    )
    return Repetition(run.folder, differing, (run.score("last"), result.accuracy), None, changed_code)


def read_spec(recorded: RecordedSpec) -> RunSpec:
    """Return the spec of a finished run.

    Raises:
        InputError: options or settings that this version, or the installed method, does not have.
    """
    method, faults = recorded.method, []
    settings = {f"{method}.{name}": value for name, value in recorded.settings.items()}
    chosen = {entry.name: getattr(recorded, entry.name) for entry in fields(RunSpec)}
    chosen |= {
        "options": parse_dataclass(MethodSpec, _with_min_steps(recorded.options), "the run's options"),
        "settings": parse_method_settings(method, settings, faults),
    }
    if faults:
        raise InputError("; ".join(faults))
    return RunSpec(**chosen)


def _with_min_steps(options: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return recorded options; runs from before ``train.min_steps`` had no least number of steps."""
    return {**options, "train": {"min_steps": 1, **options.get("train", {})}}
