"""Methods other than UniMoS by name, as commands, recipes and reports use them.

A new method is a file, a line here, and its name and citation in :mod:`unimos_pipe.runs.method_names`.
"""

from collections.abc import Callable
from typing import Any

from unimos_pipe.base.errors import InputError
from unimos_pipe.base.plugins import outside_method
from unimos_pipe.methods import (
    auto,
    clip_distillation,
    cross_modal_probe,
    ensemble3,
    ensv,
    fused,
    gda,
    linear_im,
    source_probe,
    stacked,
    stata,
    zero_shot,
    zlap,
)
from unimos_pipe.methods.base import Fit, LinearModel, Method
from unimos_pipe.methods.linear_head import with_linear_head


def _transductive(fit: Fit) -> Method:
    return Method(with_linear_head(fit), LinearModel.from_state, transductive=True)


METHODS: dict[str, Method] = {
    "zero-shot": Method(zero_shot.fit, LinearModel.from_state),
    "source-probe": Method(source_probe.fit, LinearModel.from_state),
    "fused": Method(fused.fit, LinearModel.from_state),
    "stacked": Method(stacked.fit, LinearModel.from_state),
    "gda": Method(gda.fit, LinearModel.from_state),
    "stata": _transductive(stata.fit),
    "stata-fused": _transductive(stata.fit_from_fused),
    "zlap": _transductive(zlap.fit),
    "linear-im": Method(linear_im.fit, LinearModel.from_state),
    "ensemble3": _transductive(ensemble3.fit),
    "cross-modal-probe": Method(cross_modal_probe.fit, LinearModel.from_state),
    "clip-distillation": Method(clip_distillation.fit, LinearModel.from_state),
    "ensv": Method(ensv.fit, LinearModel.from_state),
    "auto": Method(auto.fit, LinearModel.from_state),
}


def get_method(
    name: str, settings: tuple[tuple[str, Any], ...] = (), seed: int = 0, on_epoch: Callable | None = None
) -> Method:
    """A method beside UniMoS by its name, shipped or from outside the package, as a function of the task alone.

    Args:
        settings: those of a method from outside that differ from their defaults.
        seed: of its randomness, where it has any.
        on_epoch: as :class:`unimos_pipe.base.plugins.OutsideMethod` has it.
    Raises:
        InputError: no method of this name, or its module cannot be imported.
    """
    if name in METHODS:
        return METHODS[name]
    outside = outside_method(name)
    if outside is None:
        raise InputError(f"no method {name!r} here; install the package that it comes from, or name its module")
    return Method(outside.bind(settings, seed, on_epoch), outside.load_model)
