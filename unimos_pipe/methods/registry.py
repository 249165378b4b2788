"""Methods other than UniMoS by name, as commands, recipes and reports use them. A new method is a file and a line."""

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
from unimos_pipe.methods.base import LinearModel, Method

METHODS: dict[str, Method] = {
    "zero-shot": Method(zero_shot.fit, LinearModel.from_state),
    "source-probe": Method(source_probe.fit, LinearModel.from_state),
    "fused": Method(fused.fit, LinearModel.from_state),
    "stacked": Method(stacked.fit, LinearModel.from_state),
    "gda": Method(gda.fit, LinearModel.from_state),
    "stata": Method(stata.fit),
    "stata-fused": Method(stata.fit_from_fused),
    "zlap": Method(zlap.fit),
    "linear-im": Method(linear_im.fit, LinearModel.from_state),
    "ensemble3": Method(ensemble3.fit),
    "cross-modal-probe": Method(cross_modal_probe.fit, LinearModel.from_state),
    "clip-distillation": Method(clip_distillation.fit, LinearModel.from_state),
    "ensv": Method(ensv.fit, LinearModel.from_state),
    "auto": Method(auto.fit, LinearModel.from_state),
}
