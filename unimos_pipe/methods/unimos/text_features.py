"""Text features of a run: its prompts', or those of a fused teacher."""

from collections.abc import Sequence

from torch import Tensor

from unimos_pipe.base.method_config import MethodSpec
from unimos_pipe.methods.task import AdaptationTask


def text_features(tasks: Sequence[AdaptationTask], methods: Sequence[MethodSpec]) -> list[Tensor]:
    """Return the (K, D) text features of every run of a stack, from its own task, by its ``train.text``.

    The probe of a fused teacher depends only on the source and is fitted once for all runs that share one.

    Raises:
        InputError: the source of a fused teacher has rows of fewer than two classes.
    """
    probes = {}
    return [
        task.text_features if method.train.text == "prompts" else _fused(task, probes)
        for task, method in zip(tasks, methods, strict=True)
    ]


def _fused(task: AdaptationTask, probes: dict) -> Tensor:
    from unimos_pipe.methods import fused, source_probe  # scikit-learn takes a second to import

    key = task.source.name, task.source.labels.cpu().numpy().tobytes()
    if key not in probes:
        probes[key] = source_probe.fit_probe(task, intercept=False)
    return fused.fused_text_features(task, probes[key])
