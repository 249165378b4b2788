"""Method names, importable without torch; used by commands, recipes, folders and reports."""

from collections.abc import Callable, Mapping
from typing import Any

from unimos_pipe.base import plugins
from unimos_pipe.base.errors import Argument, InputError, short_repr

UNIMOS = "unimos"
UNIMOS_NAME = "UniMoS"  # for readers
AUTO = "auto"
OTHER_METHODS = (
    "zero-shot",
    "source-probe",
    "fused",
    "stacked",
    "gda",
    "stata",
    "stata-fused",
    "zlap",
    "linear-im",
    "ensemble3",
    "cross-modal-probe",
    "clip-distillation",
    "ensv",
    AUTO,
)
METHODS = (UNIMOS, *OTHER_METHODS)
CITATIONS = {  # whom to cite for each
    UNIMOS: "Li et al., Split to Merge: Unifying Separated Modalities for Unsupervised Domain Adaptation, CVPR 2024, "
    "arXiv 2403.06946",
    "zero-shot": "Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021, "
    "arXiv 2103.00020",
    "source-probe": "the linear probe of Radford et al., ICML 2021, arXiv 2103.00020",
    "fused": "unimos-pipe's own: zero-shot and source-probe averaged",
    "stacked": "unimos-pipe's own: zero-shot and source-probe with the weights that fit the source best",
    "gda": "Wang et al., A Hard-to-Beat Baseline for Training-Free CLIP-Based Adaptation, ICLR 2024, arXiv 2402.04087",
    "stata": "Zanella et al., Realistic Test-Time Adaptation of Vision-Language Models, CVPR 2025, arXiv 2501.03729",
    "stata-fused": "stata (arXiv 2501.03729), started from unimos-pipe's own fused",
    "zlap": "Stojnić et al., Label Propagation for Zero-shot Classification with Vision-Language Models, CVPR 2024, "
    "arXiv 2404.04072",
    "linear-im": "information maximisation of Shi and Sha, ICML 2012, as in Liang et al., Do We Really Need to Access "
    "the Source Data?, ICML 2020, arXiv 2002.08546, on a linear head",
    "ensemble3": "unimos-pipe's own: the mean of fused, stata-fused and linear-im",
    "cross-modal-probe": "Lin et al., Multimodality Helps Unimodality: Cross-Modal Few-Shot Learning with Multimodal "
    "Models, CVPR 2023, arXiv 2301.06267",
    "clip-distillation": "distillation of zero-shot CLIP (Radford et al., ICML 2021) into a linear head",
    "ensv": "Hu et al., Towards Reliable Model Selection for Unsupervised Domain Adaptation, NeurIPS 2024",
    AUTO: "unimos-pipe's own: the mean of zero-shot and of stata (arXiv 2501.03729) on centred features",
}
TEXT_FREE = ("source-probe", "linear-im")  # they read image features alone
LABEL_FREE = ("zero-shot", "zlap", "clip-distillation")  # they read prompts and target rows alone
ESTIMATE_ERROR = "on 422 trial pairs the range held 95% of the accuracies of auto"
ESTIMATE_WITHIN = "the range held the accuracy for 89% of trials"  # the same, where there is little room
# Ways to choose images to label; the first is the default.
LABEL_CHOICES = ("margin", "disagreement", "coverage", "random")
LABEL_SETS = ("closed", "partial")  # the target has every class of the source, or only some (partial-set adaptation)


def register_method(
    name: str,
    fit: Callable,
    *,
    load_model: Callable | None = None,
    settings: type | None = None,
    citation: str = "",
    version: str | None = None,
) -> plugins.OutsideMethod:
    """Make a method known by name: to commands, recipes, reports, calibration, ``predict`` and export.

    Args:
        name: letters, digits and '-'.
        fit, load_model, settings, citation, version: see :class:`unimos_pipe.base.plugins.OutsideMethod`.
    Raises:
        InputError: a name that a shipped method has, or what :func:`unimos_pipe.base.plugins.add_method` raises.
    """
    if not name.replace("-", "").isalnum() or name in METHODS:
        raise InputError(f"method {name!r}", expected="a name of letters, digits and '-' that no shipped method has")
    method = plugins.OutsideMethod(name, fit, load_model, settings, citation, version)
    plugins.add_method(method)
    return method


def method_names() -> tuple[str, ...]:
    """The methods by name, those from outside the package last."""
    return (*METHODS, *plugins.outside_names(plugins.METHODS))


def parse_method_settings(method: str, settings: Mapping[str, Any], faults: list[str]) -> tuple[tuple[str, Any], ...]:
    """The settings of a method from outside the package that differ from their defaults, from dotted names.

    Nothing of a shipped method, whose settings are not looked at. Faults go to ``faults``.
    """
    outside = None if method in METHODS else plugins.outside_method(method)
    if outside is None:
        return ()
    own = {name.partition(".")[2]: value for name, value in settings.items() if name.partition(".")[0] == method}
    faults += [f"{method} has no setting {name}" for name in settings if name.partition(".")[0] != method]
    return outside.parse_settings(own, faults)


def label_set_faults(method: str, label_set: str) -> list[str]:
    """Return why a method cannot be told a label set: it asks for none, or there is no such one."""
    faults = [f"{method} takes no label set; only {AUTO} does"] if label_set and method != AUTO else []
    if label_set not in ("", *LABEL_SETS):
        faults.append(f"label_set: expected {' or '.join(LABEL_SETS)}, got {short_repr(label_set)}")
    return faults


def is_seeded(method: str) -> bool:
    """Return whether a method is random, so that it runs once per seed."""
    outside = None if method in METHODS else plugins.outside_method(method)
    return method == UNIMOS or (outside is not None and outside.seeded)


def answers_new_rows(method: str) -> bool:
    """Return whether a method has a model that predicts new rows (inductive)."""
    outside = None if method in METHODS else plugins.outside_method(method)
    return outside is None or outside.load_model is not None


def citation(method: str) -> str | None:
    """Return whom to cite for a method; None if unknown."""
    outside = None if method in METHODS else plugins.outside_method(method)
    return CITATIONS.get(method) or (outside.citation if outside else None) or None


def labels_fault(method: str) -> str | None:
    """Why a method cannot learn from labels, or None."""
    return f"{method} learns from no labels" if method in LABEL_FREE else None


def text_fault(method: str) -> tuple[str | Argument, ...] | None:
    """Why a method cannot run on features without text, or None; what it needs is not known of one from outside."""
    if method not in METHODS or method in TEXT_FREE:
        return None
    choices = [part for name in TEXT_FREE for part in (" or ", Argument("method", name))][1:]
    return (
        f"{method} reads text features. Choose ", *choices, ", which read none, or import text features of the "
        "classes with ", Argument("text"), " or ", Argument("text_from"),
    )  # fmt: skip


def protocol_fault(method: str, protocol: str) -> str | None:
    """Why a method cannot make runs of a protocol, or None."""
    if protocol != "inductive" or method not in method_names() or answers_new_rows(method):
        return None
    return (
        f"{method} predicts only the rows it was fitted on, and an inductive run scores others; "
        "use protocol transductive"
    )
