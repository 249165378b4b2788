"""auto: selects the method without target labels.

Fused, statistical anchors from fused, and linear-im predict the target; d = kn(linear-im) - kn(fused), with kn the
neighbour agreement of predictions. Closed-set (all K classes occur in the target): d > 0.05 selects linear-im, 0 <= d
<= 0.05 the ensemble of three, d < 0 the anchors. Partial-set: the anchors, never linear-im. Features do not show which
of the two holds, so the user says it. The rule was fixed before the last data sets were evaluated.
"""

from dataclasses import dataclass
from typing import Literal

from unimos_pipe.methods import ensemble3, fused, linear_im, stata
from unimos_pipe.methods.base import MethodOutput
from unimos_pipe.methods.task import AdaptationTask
from unimos_pipe.methods.unsupervised_metrics import estimate_accuracy, find_nearest_rows, neighbour_agreement

THRESHOLD = 0.05
LabelSet = Literal["closed", "partial"]


@dataclass(frozen=True)
class AutoSelection:
    """The selected method and the reasons.

    ``selected`` is a name in :mod:`unimos_pipe.methods.registry`; ``agreements`` are the neighbour agreements by
    method, including the selected one; ``accuracy`` is the estimate as a fraction, None if it cannot be estimated;
    ``reason`` is one line; ``warning`` is an assumption that was made, or None.
    """

    selected: str
    output: MethodOutput
    agreements: dict[str, float]
    accuracy: float | None
    reason: str
    warning: str | None


def select_method(difference: float, label_set: LabelSet | None) -> tuple[str, str]:
    """Return the method and the reason, from d = kn(linear-im) - kn(fused) and the label set (None: unknown)."""
    if label_set == "partial":
        return "stata-fused", "only some of the classes occur in the target"
    reason = f"neighbours agree on linear-im's answers by {100 * difference:+.1f} points against fused's"
    if difference > THRESHOLD:
        return "linear-im", reason
    return ("ensemble3" if difference >= 0 else "stata-fused"), reason


def fit_auto(task: AdaptationTask, label_set: LabelSet | None = None) -> AutoSelection:
    """Fit the three methods and select one, or their ensemble.

    Args:
        label_set: "closed" (the target has every class) or "partial"; None assumes closed.

    Raises:
        InputError: the source has rows of fewer than two classes.
    """
    fused_output = fused.fit(task)
    outputs = {
        "fused": fused_output,
        "stata-fused": stata.fit_from_logits(task, fused_output.logits),
        "linear-im": linear_im.fit(task),
    }
    nearest = find_nearest_rows(task.target.features)
    agreements = {name: neighbour_agreement(output.classes, nearest) for name, output in outputs.items()}
    selected, reason = select_method(agreements["linear-im"] - agreements["fused"], label_set)
    if selected == "ensemble3":
        outputs["ensemble3"] = MethodOutput(ensemble3.average_logits([output.logits for output in outputs.values()]))
        agreements["ensemble3"] = neighbour_agreement(outputs["ensemble3"].classes, nearest)
    accuracy = estimate_accuracy(agreements[selected], fused_output.classes, outputs["linear-im"].classes)
    return AutoSelection(
        selected, outputs[selected], agreements, accuracy, reason, _describe_assumption(selected, label_set)
    )


def _describe_assumption(selected: str, label_set: LabelSet | None) -> str | None:
    if label_set is not None or selected == "stata-fused":
        return None
    return (
        f"{selected} is right only where all classes occur in the target, which is assumed; "
        "say --label-set closed or partial"
    )
