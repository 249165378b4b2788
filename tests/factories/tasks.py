"""Made tasks and heads for tests of stage two: small, seeded, in float64 unless asked otherwise."""

import torch
import torch.nn.functional as F

from unimos_pipe.base.method_config import EncoderSpec, MethodSpec, method_spec
from unimos_pipe.methods.task import AdaptationTask, LabelledFeatures, UnlabelledFeatures
from unimos_pipe.methods.unimos.heads import Heads
from unimos_pipe.methods.unimos.random_streams import RandomStreams
from unimos_pipe.methods.unimos.step import Batch

TINY = EncoderSpec("tinyclip-r24-64", "embedded", "fp32")
SMALL = {
    "heads.bottleneck_dim": 12,
    "heads.weight_hidden": 10,
    "heads.discriminator_hidden": 9,
    "train.min_steps": 1,  # of tasks whose rows make five
}


def small_method(variant: str = "full", **settings) -> MethodSpec:
    """A method with narrow heads, for tests; ``settings`` are written ``loss__gamma=0.05``."""
    return method_spec(variant, SMALL | {name.replace("__", "."): value for name, value in settings.items()})


def random_task(
    source: int = 40, target: int = 56, dim: int = 16, classes: int = 5, seed: int = 0, dtype=torch.float64
) -> AdaptationTask:
    """Noisy clusters around class centres, the prompts near the centres."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, dim, generator=g, dtype=torch.float64)

    def rows(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(count) % classes
        noise = torch.randn(count, dim, generator=g, dtype=torch.float64)
        return F.normalize(centres[labels] + 0.8 * noise, dim=-1).to(dtype), labels

    x, y = rows(source)
    text = F.normalize(centres + torch.randn(classes, dim, generator=g, dtype=torch.float64), dim=-1)
    name = f"{seed}, {dtype}"
    made = LabelledFeatures(x, y, f"source {name}"), UnlabelledFeatures(rows(target)[0], f"target {name}")
    return AdaptationTask(*made, text.to(dtype))


def made_heads(method: MethodSpec, runs: int = 1, dim: int = 16, classes: int = 5, dtype=torch.float64) -> Heads:
    """Heads of ``runs`` runs from seeds 0, 1, ..., ready to train."""
    starts = [RandomStreams(seed, 40, 56, 8).draw_parameters(dim, classes, method.heads) for seed in range(runs)]
    return Heads.stack(starts, method.heads, dtype, torch.device("cpu"), method.train.momentum)


def made_batch(task: AdaptationTask, method: MethodSpec, half: int = 8, runs: int = 1) -> Batch:
    """The first rows of a task as a batch of equal runs, nothing dropped out."""
    x = torch.cat([task.source.features[:half], task.target.features[:half]])
    keep = torch.ones(runs, 4 * half, method.heads.discriminator_hidden, dtype=x.dtype)
    pseudo = (torch.arange(half) * 2) % len(task.text_features)
    return Batch(
        x.expand(runs, -1, -1),
        task.source.labels[:half].expand(runs, -1),
        pseudo.expand(runs, -1),
        task.text_features.expand(runs, -1, -1),
        keep,
    )
