"""Published figures to stand beside ours, from paper_results.toml. All accuracies here are fractions."""

import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from unimos_pipe.report_runs import Experiment

METHODS = {"clip": "CLIP", "daprompt": "DAPrompt", "adclip": "AD-CLIP", "padclip": "PADCLIP", "unimos": "UniMoS"}
METHODS["damp"] = "DAMP"
ABLATIONS = {  # our variants by the names of the paper's table 5
    "full": "full",
    "no-ortho": "w/o orthogonality loss",
    "no-debias": "w/o debiasing",
    "no-im": "w/o information maximization",
    "no-distill": "w/o distillation",
    "fixed-weight": "w/o learnable weight",
    "no-discriminator": "w/o modality discriminator",
}


@dataclass(frozen=True)
class Published:
    """What the papers print for one data set and encoder; methods by their display names."""

    pairs: dict[str, dict[str, float]] = field(default_factory=dict)  # pair -> method -> accuracy
    averages: dict[str, float] = field(default_factory=dict)  # method -> accuracy
    ablations: dict[str, float] = field(default_factory=dict)  # variant -> accuracy
    per_class_mean: bool = False  # whether the accuracies are means over classes


@cache
def _facts() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "paper_results.toml").read_text(encoding="utf-8"))


def published(experiment: Experiment) -> Published:
    """The published figures for an experiment's data set and encoder; empty where there are none.

    The papers used OpenAI's weights, so other weights have nothing to stand beside.
    """
    model = experiment.model.removesuffix("-quickgelu")
    data = _facts().get(experiment.dataset, {})
    methods = data.get(model)
    if methods is None or "_openai_" not in experiment.runs[0].spec["encoder_id"]:
        return Published()
    pairs: dict[str, dict[str, float]] = {}
    for key, figures in methods.items():
        for pair in experiment.pairs:
            value = _pair_figure(data, figures, *pair.split("->"))
            if value is not None:
                pairs.setdefault(pair, {})[METHODS[key]] = value / 100
    averages = {METHODS[key]: figures["avg"] / 100 for key, figures in methods.items()}
    ablated = {"office_home": "RN50", "visda2017": "RN101"}.get(experiment.dataset) == model
    table = _facts()["ablation"] if ablated else {}
    ablations = {variant: table[name][experiment.dataset] / 100 for variant, name in ABLATIONS.items() if name in table}
    return Published(pairs, averages, ablations, experiment.dataset == "visda2017")


def _pair_figure(data: dict[str, Any], figures: dict[str, Any], source: str, target: str) -> float | None:
    """A method's percentage for one pair, or None where it was not printed."""
    if "rows" in figures:  # DomainNet: targets in rows, sources in columns
        names = data["domains"]
        return figures["rows"][names.index(target)][names.index(source)] if {source, target} <= set(names) else None
    if "per_target" in figures:
        return dict(zip(data["domains"], figures["per_target"], strict=True)).get(target)
    tasks = data.get("tasks", [])
    for position, task in enumerate(tasks):
        first, second = task.split("->")
        if _is_domain(source, first) and _is_domain(target, second):
            return figures["acc"][position] if "acc" in figures else figures["avg"] if len(tasks) == 1 else None
    return None


def _is_domain(name: str, printed: str) -> bool:
    """Whether a domain is the one printed by its name or its initial."""
    return name == printed or (len(printed) == 1 and name[0].lower() == printed.lower())
