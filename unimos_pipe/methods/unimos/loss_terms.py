"""Training objective: every loss by name, with its weight and inputs (METHOD.md section 3.4).

To add a loss: a function in ``losses.py``, an entry in :data:`LOSSES`, and an option for its weight in
``base/method_config.py``. METHOD.md section 9 shows an example.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

from torch import Tensor

from unimos_pipe.base.errors import InputError, join_names
from unimos_pipe.base.method_config import LossSpec
from unimos_pipe.base.plugins import OutsideLoss, add_loss
from unimos_pipe.methods.unimos.losses import (
    cross_entropy,
    distillation,
    information_maximisation,
    matrix_orthogonality,
    minimum_class_confusion,
    modality_bce,
    row_orthogonality,
)


@dataclass(frozen=True)
class Outputs:
    """Outputs of one step's modules for R runs, and the targets of the losses.

    Gradients flow into all fields but the last three. The first B of 2B rows are source, the others target.
    """

    f_vac: Tensor  # (R, 2B, D)
    f_lac: Tensor  # (R, 2B, D)
    y_vac: Tensor  # (R, 2B, K)
    y_lac: Tensor  # (R, 2B, K)
    ensemble: Tensor  # (R, B, K) of the target, from y_vac and w alone
    modality_source: Tensor  # (R, 2B) discriminator logits of B VAC rows and B LAC rows
    modality_target: Tensor  # (R, 2B); the discriminator itself learns nothing from it
    teacher: Tensor  # (R, B, K) zero-shot logits of the target
    source_labels: Tensor  # (R, B)
    pseudo_labels: Tensor  # (R, B)

    @property
    def half(self) -> int:
        """B, the index of the first target row."""
        return self.f_vac.shape[1] // 2


class LossTerm(NamedTuple):
    """Weight of a loss, its value as a (R,) mean per run, and the term of METHOD.md under which it is logged."""

    term: str
    weight: Callable[[LossSpec], float]
    value: Callable[[Outputs], Tensor]


LOSSES = {
    "source_lac": LossTerm("lac", lambda s: s.alpha, lambda o: cross_entropy(o.y_lac[:, : o.half], o.source_labels)),
    "distillation": LossTerm("lac", lambda s: s.distill, lambda o: distillation(o.y_lac[:, o.half :], o.teacher)),
    "source_vac": LossTerm("vac", lambda s: s.beta, lambda o: cross_entropy(o.y_vac[:, : o.half], o.source_labels)),
    "pseudo_label": LossTerm("vac", lambda s: 1.0, lambda o: cross_entropy(o.ensemble, o.pseudo_labels)),
    "im": LossTerm("im", lambda s: s.im, lambda o: information_maximisation(o.ensemble)),
    "ortho_rows": LossTerm(
        "ortho",
        lambda s: s.gamma * (s.ortho and s.ortho_form == "rows"),
        lambda o: row_orthogonality(o.f_lac, o.f_vac),
    ),
    "ortho_matrix": LossTerm(
        "ortho",
        lambda s: s.gamma * (s.ortho and s.ortho_form == "matrix"),
        lambda o: matrix_orthogonality(o.f_lac, o.f_vac),
    ),
    "bce_source": LossTerm(
        "bce_source", lambda s: s.gamma * s.discriminator, lambda o: modality_bce(o.modality_source)
    ),
    "bce_target": LossTerm(
        "bce_target", lambda s: s.gamma * s.discriminator, lambda o: modality_bce(o.modality_target)
    ),
    "mcc": LossTerm("mcc", lambda s: s.mcc, lambda o: minimum_class_confusion(o.ensemble)),
}
TERMS = tuple(dict.fromkeys(loss.term for loss in LOSSES.values()))


def terms_of(spec: LossSpec) -> tuple[str, ...]:
    """Return the terms of a run's loss with a non-zero weight."""
    return tuple(term for term in TERMS if any(loss.term == term and loss.weight(spec) for loss in LOSSES.values()))


def register_loss(
    name: str, value: Callable[[Outputs], Tensor], *, term: str = "im", version: str | None = None
) -> None:
    """Make a loss from outside the package known by name; its weight is the option ``loss.NAME``, 0 by default.

    Args:
        name: of the option: a Python name that no option of ``loss`` has.
        value: (R,) means, one per stacked run; gradients follow by themselves.
        term: one of :data:`TERMS`, under which it is logged.
        version: stands for the source of ``value`` in a run's ``code``, where it is given.
    Raises:
        InputError: a name that is taken or no name, an unknown term, or a source that cannot be found.
    """
    if not name.isidentifier() or name in {entry.name for entry in fields(LossSpec)} or name in SHIPPED:
        raise InputError(f"loss {name!r}", expected="a Python name that no option of loss has")
    if term not in TERMS:
        raise InputError(f"loss {name}: term", expected=join_names(TERMS, 10), got=term)
    add_loss(OutsideLoss(name, value, term, version))
    LOSSES[name] = LossTerm(term, lambda spec: getattr(spec, name), value)


SHIPPED = frozenset(LOSSES)
