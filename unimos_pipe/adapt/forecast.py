"""How long stage two of a recipe will take before its features exist, measured here on random ones."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from unimos_pipe.adapt.sweep import epoch_seconds
from unimos_pipe.data.manifest import DatasetSpec
from unimos_pipe.methods.task import AdaptationTask, LabelledFeatures, UnlabelledFeatures, unit_rows
from unimos_pipe.methods.unimos.schedules import batch_rows, steps_per_epoch
from unimos_pipe.methods.unimos.trainer import seeded_run
from unimos_pipe.runs.spec import RunSpec

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


def training_seconds(
    runs: Sequence[RunSpec], rows: dict[str, Rows], classes: int, dim: int, device: torch.device, lockstep: int
) -> float:
    """Expected seconds of stage two, from one short epoch of as many runs as would be stacked.

    Args:
        rows: each domain's rows.
        dim: embedding size D.
        lockstep: runs in a stack.
    """
    stack = list(runs[:lockstep])
    batch = stack[0].method.train.batch_size
    generator = torch.Generator().manual_seed(0)

    def random_rows(count: int) -> torch.Tensor:
        return unit_rows(torch.randn(count, dim, generator=generator), torch.float32, device)

    features = random_rows(TIMED_STEPS * batch)
    labels = torch.arange(len(features), device=device) % classes
    task = AdaptationTask(
        LabelledFeatures(features, labels), UnlabelledFeatures(features.clone()), random_rows(classes)
    )
    timed = []
    for run in stack:
        train = replace(run.method.train, epochs=1, precision="fp32")
        timed.append(seeded_run(task, replace(run.method, train=train), run.seed))
    per_step = epoch_seconds(timed) / (TIMED_STEPS * len(timed))
    return per_step * sum(_steps(run, rows) for run in runs)


def _steps(run: RunSpec, rows: dict[str, Rows]) -> int:
    sizes = rows[run.source].learned, rows[run.target].learned
    train = run.method.train
    return train.epochs * steps_per_epoch(*sizes, batch_rows(*sizes, train.batch_size), train.max_steps)
