"""Plan of a recipe and its expected duration before features exist, measured here on random features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unimos_pipe.base.device import pick_device
from unimos_pipe.base.encoder_presets import PLUGIN
from unimos_pipe.base.errors import InputError
from unimos_pipe.base.fork_pool import max_processes
from unimos_pipe.base.ray_cluster import ComputeConfig
from unimos_pipe.data.build_manifest import build_manifest, count_warning, find_root
from unimos_pipe.data.dataset_spec import DatasetSpec
from unimos_pipe.experiments.sweep import measure_epoch_seconds
from unimos_pipe.extract.encoder import measure_encoder_speed
from unimos_pipe.methods.task import (
    AdaptationTask,
    LabelledFeatures,
    UnlabelledFeatures,
    resolve_train_precision,
    training_dtype,
    unit_rows,
)
from unimos_pipe.methods.unimos.schedules import batch_rows, steps_per_epoch
from unimos_pipe.methods.unimos.training_run import create_run
from unimos_pipe.runs.method_names import UNIMOS
from unimos_pipe.runs.resolved_recipe import ResolvedRecipe
from unimos_pipe.runs.run_spec import RunSpec
from unimos_pipe.training.batching import MAX_STACK_SIZE, split_evenly

TIMED_STEPS = 4


@dataclass(frozen=True)
class RowCounts:
    """Rows of a domain: those for training and those only evaluated."""

    training: int
    evaluated: int = 0


def expect_row_counts(spec: DatasetSpec, domain: str, protocol: str) -> RowCounts | None:
    """Return a domain's row counts from the spec; None if the spec does not give them."""
    entry = spec.domain(domain)
    train, test = entry.train_images, entry.test_images
    if not entry.has_splits:
        return RowCounts(entry.images) if entry.images else None
    if not (train and test):
        return None
    return RowCounts(train, test) if protocol == "inductive" else RowCounts(train + test)


@dataclass(frozen=True)
class RecipePlan:
    """Both stages of a recipe before features exist. Counts and seconds are None if unknown."""

    missing: tuple[str, ...]  # domains to encode
    images: int | None
    cache_bytes: int | None
    encode_seconds: float | None  # without decoding
    runs: int
    train_seconds: float | None
    device: str
    problem: InputError | None  # the images cannot be read; counts are then the published ones
    unexpected_counts: tuple[str, ...] = ()  # how the images differ in number from the published ones


def plan_recipe(
    resolved: ResolvedRecipe,
    root: Path | None = None,
    *,
    stack_size: int | None = None,
    compute: ComputeConfig = ComputeConfig(),
) -> RecipePlan:
    """Return what :func:`unimos_pipe.run_recipe` would do, and the expected duration of both stages on this machine.

    Args:
        root: folder that holds the domains' folders; not needed for embedded data.
    Raises:
        InputError: the device does not exist.
    """
    recipe, spec, encoder = resolved.recipe, resolved.dataset, resolved.features.encoder
    domains = recipe.domains(spec)
    rows = {domain: expect_row_counts(spec, domain, recipe.protocol) for domain in domains}
    problem, unexpected = None, ()
    try:
        rows, unexpected = _count_rows_on_disk(resolved, domains, root)
    except InputError as error:
        problem = error
    device = pick_device(compute.device)
    runs = [replace(run, options=resolve_train_precision(run.options, device)) for run in recipe.runs(spec, "")]
    missing = resolved.features.missing_domains(domains)
    if not all(rows.values()) or encoder.pretrained == PLUGIN:  # which is not timed
        return RecipePlan(tuple(missing), None, None, None, len(runs), None, device.type, problem, unexpected)
    images = sum(rows[domain].training + rows[domain].evaluated for domain in missing)
    per_image, dim = measure_encoder_speed(encoder, device)
    seconds = measure_training_seconds(runs, rows, len(spec.classes), dim, device, stack_size or MAX_STACK_SIZE)
    size = images * (2 * dim + 80)  # float16 features, and a path
    stages = images * encoder.crops * per_image, len(runs), seconds
    return RecipePlan(tuple(missing), images, size, *stages, device.type, problem, unexpected)


def _count_rows_on_disk(
    resolved: ResolvedRecipe, domains: Sequence[str], root: Path | None
) -> tuple[dict[str, RowCounts], tuple[str, ...]]:
    """Return each domain's rows on disk, and lines on counts that are not the published ones.

    Raises:
        InputError: images are missing.
    """
    spec = resolved.dataset
    images = find_root(spec, root, resolved.features.cache)
    manifests = {
        domain: [build_manifest(spec, part, images, skip_missing=spec.is_own) for part in spec.parts(domain)]
        for domain in domains
    }
    unexpected = [line for parts in manifests.values() for part in parts if (line := count_warning(spec, part))]
    counts = {domain: [len(part) for part in parts] for domain, parts in manifests.items()}
    inductive = resolved.recipe.protocol == "inductive"
    rows = {domain: RowCounts(*parts) if inductive else RowCounts(sum(parts)) for domain, parts in counts.items()}
    return rows, tuple(unexpected)


def measure_training_seconds(
    runs: Sequence[RunSpec], rows: dict[str, RowCounts], classes: int, dim: int, device: torch.device, stack_size: int
) -> float:
    """Return the expected seconds of the UniMoS runs, from one short epoch of a full stack.

    Args:
        rows: row counts by domain.
        dim: embedding size D.
        stack_size: maximum number of runs in a stack.
    """
    runs = [run for run in runs if run.method == UNIMOS]
    if not runs:
        return 0.0
    processes = max_processes(device)
    sizes = split_evenly(len(runs), stack_size, processes)
    stack = runs[: sizes[0]]
    batch, dtype = stack[0].options.train.batch_size, training_dtype(stack[0].options.train.precision)
    generator = torch.Generator().manual_seed(0)

    def random_rows(count: int) -> torch.Tensor:
        return unit_rows(torch.randn(count, dim, generator=generator), dtype, device)

    features = random_rows(TIMED_STEPS * batch)
    labels = torch.arange(len(features), device=device) % classes
    task = AdaptationTask(
        LabelledFeatures(features, labels), UnlabelledFeatures(features.clone()), random_rows(classes)
    )
    timed_runs = []
    for run in stack:
        train = replace(run.options.train, epochs=1, min_steps=1)
        timed_runs.append(create_run(task, replace(run.options, train=train), run.seed))
    per_step = measure_epoch_seconds(timed_runs, min(processes, len(sizes))) / (TIMED_STEPS * len(timed_runs))
    return per_step * sum(_count_steps(run, rows) for run in runs)


def _count_steps(run: RunSpec, rows: dict[str, RowCounts]) -> int:
    sizes = sum(rows[name].training for name in run.source.split("+")), rows[run.target].training
    train = run.options.train
    return train.epochs * steps_per_epoch(
        *sizes, batch_rows(*sizes, train.batch_size), train.max_steps, train.min_steps
    )
