"""What a recipe will do and how long it will take before its features exist, measured here on random ones."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from unimos_pipe.base.device import pick_device
from unimos_pipe.base.errors import UserError
from unimos_pipe.base.fork_pool import processes_on
from unimos_pipe.base.ray_cluster import Compute
from unimos_pipe.data.manifest import DatasetSpec
from unimos_pipe.data.scan import find_root, scan
from unimos_pipe.experiments.sweep import epoch_seconds
from unimos_pipe.extract.encoder import encoder_speed
from unimos_pipe.methods.task import (
    AdaptationTask,
    LabelledFeatures,
    UnlabelledFeatures,
    settled,
    training_dtype,
    unit_rows,
)
from unimos_pipe.methods.unimos.schedules import batch_rows, steps_per_epoch
from unimos_pipe.methods.unimos.training_run import seeded_run
from unimos_pipe.runs.method_names import UNIMOS
from unimos_pipe.runs.resolved_recipe import BoundRecipe
from unimos_pipe.runs.run_spec import RunSpec
from unimos_pipe.training.batching import MOST_IN_STACK, even_sizes

TIMED_STEPS = 4


@dataclass(frozen=True)
class Rows:
    """Rows of a domain by what they are for: learned from, and only scored."""

    learned: int
    scored: int = 0


def expected_rows(spec: DatasetSpec, domain: str, protocol: str) -> Rows | None:
    """A domain's rows as the spec expects them; None where it does not say."""
    entry = spec.domain(domain)
    train, test = entry.train_images, entry.test_images
    if not entry.split:
        return Rows(entry.images) if entry.images else None
    if not (train and test):
        return None
    return Rows(train, test) if protocol == "inductive" else Rows(train + test)


@dataclass(frozen=True)
class RecipePlan:
    """Both stages of a recipe before its features exist. Counts and seconds are None where nobody can tell yet."""

    missing: tuple[str, ...]  # domains to encode
    images: int | None
    cache_bytes: int | None
    encode_seconds: float | None  # decoding aside
    runs: int
    train_seconds: float | None
    device: str
    problem: UserError | None  # why the images cannot be read; counts are then the published ones


def plan_recipe(
    bound: BoundRecipe, root: Path | None = None, *, lockstep: int | None = None, compute: Compute = Compute()
) -> RecipePlan:
    """What :func:`unimos_pipe.run_recipe` would do, and about how long both stages would take here.

    Args:
        root: folder that holds the domains' folders; embedded data needs none.
    Raises:
        UserError: a device that is not there.
    """
    recipe, spec, encoder = bound.recipe, bound.dataset, bound.features.encoder
    domains = recipe.domains(spec)
    rows = {domain: expected_rows(spec, domain, recipe.protocol) for domain in domains}
    problem = None
    try:
        rows = _found_rows(bound, domains, root)
    except UserError as error:
        problem = error
    place = pick_device(compute.device)
    runs = [replace(run, options=settled(run.options, place)) for run in recipe.runs(spec, "")]
    missing = bound.features.missing(domains)
    if not all(rows.values()):
        return RecipePlan(tuple(missing), None, None, None, len(runs), None, place.type, problem)
    images = sum(rows[domain].learned + rows[domain].scored for domain in missing)
    per_image, dim = encoder_speed(encoder, place)
    seconds = training_seconds(runs, rows, len(spec.classes), dim, place, lockstep or MOST_IN_STACK)
    size = images * (2 * dim + 80)  # float16 features, and a path
    return RecipePlan(tuple(missing), images, size, images * per_image, len(runs), seconds, place.type, problem)


def _found_rows(bound: BoundRecipe, domains: Sequence[str], root: Path | None) -> dict[str, Rows]:
    """Each domain's rows as the disk has them. Raises UserError where images are missing."""
    spec = bound.dataset
    images = find_root(spec, root, bound.features.cache)
    parts = {domain: [len(scan(spec, part, images)) for part in spec.parts(domain)] for domain in domains}
    inductive = bound.recipe.protocol == "inductive"
    return {domain: Rows(*counts) if inductive else Rows(sum(counts)) for domain, counts in parts.items()}


def training_seconds(
    runs: Sequence[RunSpec], rows: dict[str, Rows], classes: int, dim: int, device: torch.device, lockstep: int
) -> float:
    """Expected seconds of UniMoS's runs, from one short epoch of as many as would be stacked.

    Args:
        rows: each domain's rows.
        dim: embedding size D.
        lockstep: most runs in a stack.
    """
    runs = [run for run in runs if run.method == UNIMOS]
    if not runs:
        return 0.0
    processes = processes_on(device)
    sizes = even_sizes(len(runs), lockstep, processes)
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
    timed = []
    for run in stack:
        train = replace(run.options.train, epochs=1)
        timed.append(seeded_run(task, replace(run.options, train=train), run.seed))
    per_step = epoch_seconds(timed, min(processes, len(sizes))) / (TIMED_STEPS * len(timed))
    return per_step * sum(_steps(run, rows) for run in runs)


def _steps(run: RunSpec, rows: dict[str, Rows]) -> int:
    sizes = sum(rows[name].learned for name in run.source.split("+")), rows[run.target].learned
    train = run.options.train
    return train.epochs * steps_per_epoch(*sizes, batch_rows(*sizes, train.batch_size), train.max_steps)
