"""Schedules: learning rate, inference weight and source of pseudo-labels."""

from unimos_pipe.base.method_config import EvalSpec, TrainSpec

BEFORE_TRAINING = -1  # the epoch number of the evaluation before training


def learning_rate(step: int, spec: TrainSpec) -> float:
    """lr0 (1 + 0.001 step)^-0.75; steps count over the whole run from 0 (METHOD.md section 3.6)."""
    return spec.lr * (1 + spec.lr_gamma * step) ** -spec.lr_power


def inference_weight(epoch: int, spec: EvalSpec) -> float:
    """Weight of VAC at the evaluation after ``epoch``: w_start to w_end in w_epochs (METHOD.md section 4)."""
    progress = min(max(0, epoch), spec.w_epochs) / spec.w_epochs
    return spec.w_start + (spec.w_end - spec.w_start) * progress


def pseudo_label_source(epoch: int, spec: EvalSpec) -> str:
    """Source of the pseudo-labels after the evaluation at ``epoch``: teacher, cluster or ensemble."""
    if spec.pseudo_labels == "cluster":
        return "cluster"
    if epoch <= 0:
        return "teacher"
    return "cluster" if epoch % 2 else "ensemble"


def steps_per_epoch(source_rows: int, target_rows: int, batch: int, max_steps: int, min_steps: int = 1) -> int:
    """Whole batches of the smaller domain, at least ``min_steps`` and at most ``max_steps``, which prevails."""
    return min(max(min(source_rows, target_rows) // batch, min_steps), max_steps)


def batch_rows(source_rows: int, target_rows: int, batch_size: int) -> int:
    """Rows per domain and step: the batch size, or fewer where a domain has fewer."""
    return min(batch_size, source_rows, target_rows)
