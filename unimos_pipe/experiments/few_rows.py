"""Warning before UniMoS trains on few rows, where it was measured to fall below zero-shot."""

from collections.abc import Sequence

from unimos_pipe.base.errors import join_names
from unimos_pipe.methods.task import PairLoader
from unimos_pipe.training.batched_training import PlannedRun

MIN_ROWS_PER_CLASS = 5  # of the source, in the mean of the classes
SHOWN = 3  # pairs


def few_rows_warning(plans: Sequence[PlannedRun], loader: PairLoader) -> str | None:
    """Return the warning of a plan of UniMoS runs whose sources have at most five rows a class; None if none has."""
    few = {}
    for plan in plans:
        task = plan.load_data(loader).task
        rows = len(task.source.labels) / len(task.text_features)
        if rows <= MIN_ROWS_PER_CLASS:
            few[f"{plan.spec.source} ({rows:.1f})"] = None
    if not few:
        return None
    return (
        f"few labelled images per class: {join_names(few, SHOWN)}; with so few UniMoS was up to 32 points below "
        "zero-shot in trials, and the method auto up to 2"
    )
