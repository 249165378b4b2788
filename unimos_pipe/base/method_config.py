"""Options of the method as frozen dataclasses. All are checked before any work starts.

The defaults follow METHOD.md: the authors' released code (arXiv 2403.06946, section 4.1). Where the paper's text
differs, the paper's form is a choice of the same field, and its help says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from unimos_pipe.base.dataclass_parsing import nest_settings, option, option_fields, parse_dataclass
from unimos_pipe.base.errors import Argument, InputError, join_names, short_repr, suggestions
from unimos_pipe.base.plugins import LOSSES, METHODS, find_outside, outside_method, outside_names

DEFAULT_TEMPLATE = "a {domain} photo of a {class}."
VIEWS = {"center": 1, "flip": 1, "corners": 4}  # number of crops of each view of an image
DEFAULT_VIEWS = ("center",)
CLIP_LOGIT_SCALE = 100.0  # 1/T, what CLIP multiplies cosines by, here fixed (METHOD.md section 1)


@dataclass(frozen=True)
class EncoderSpec:
    """A frozen CLIP encoder and its precision."""

    model: str = option("RN50-quickgelu", "open_clip model name")
    pretrained: str = option("openai", "open_clip weights tag, or a path to a weights file")
    precision: str = option("auto", "arithmetic of the encoder", choices=("fp32", "fp16", "bf16", "auto"))
    allow_torchscript: bool = option(False, "load a TorchScript archive of unknown origin, which can run code")
    views: tuple[str, ...] = option(DEFAULT_VIEWS, "views of an image whose features are averaged")

    def __post_init__(self):
        """Put the views in order. Raises InputError for unknown or repeated ones, or none."""
        if not self.views or not set(self.views) <= set(VIEWS) or len(set(self.views)) < len(self.views):
            names = f"one or more of {join_names(VIEWS)}, each once"
            raise InputError((Argument("views"),), expected=names, got=short_repr(",".join(self.views)))
        object.__setattr__(self, "views", tuple(name for name in VIEWS if name in self.views))

    @property
    def crops(self) -> int:
        """Number of crops of an image that are encoded."""
        return sum(VIEWS[name] for name in self.views)


@dataclass(frozen=True)
class PromptSpec:
    """Prompt templates; the features of several templates are averaged after normalisation."""

    templates: tuple[str, ...] = option((DEFAULT_TEMPLATE,), "sentences with {domain} and {class}")


@dataclass(frozen=True)
class HeadSpec:
    """Sizes and form of the trainable modules (METHOD.md section 2)."""

    bottleneck_dim: int = option(256, "width of the bottleneck", low=1)
    weight_hidden: int = option(256, "hidden width of the weight generator", low=1)
    discriminator_hidden: int = option(256, "hidden width of the modality discriminator", low=1)
    discriminator_dropout: float = option(0.5, "dropout in the discriminator, in steps of 1/256", low=0.0, high=0.99)
    temperature_scale: float = option(CLIP_LOGIT_SCALE, "1/T of the zero-shot logits", low=1e-6)
    similarity: str = option("dot", "LAC logits: dot product, or the paper's cosine", choices=("dot", "cosine"))


@dataclass(frozen=True)
class LossSpec:
    """Weights and switches of the losses (METHOD.md section 3)."""

    alpha: float = option(1.0, "weight of the source cross-entropy on LAC (eq. 7)", low=0.0)
    beta: float = option(1.0, "weight of the source cross-entropy on VAC (eq. 15)", low=0.0)
    gamma: float = option(0.01, "weight of the orthogonality and discriminator losses (eq. 17)", low=0.0)
    distill: bool = option(True, "distil the teacher's zero-shot answers into LAC")
    im: bool = option(True, "information maximisation on the ensemble")
    ortho: bool = option(True, "keep LAC and VAC orthogonal")
    ortho_form: str = option("rows", "row-wise dot products, or the paper's matrix norm", choices=("rows", "matrix"))
    discriminator: bool = option(True, "align the domains with the modality discriminator")
    ensemble_weight: str = option("learned", "w in training: learned, or fixed at 0.5", choices=("learned", "fixed"))
    weight_per: str = option("batch", "one w per step, or the paper's one per row", choices=("batch", "row"))
    train_ensemble: str = option("raw", "LAC logits in training: raw, or debiased", choices=("raw", "debiased"))
    mcc: float = option(0.0, "weight of minimum class confusion on the ensemble (not in the paper)", low=0.0)
    extra: tuple[tuple[str, float], ...] = field(  # (name, weight) of losses from outside the package
        default=(), metadata={"extra": lambda: outside_names(LOSSES)}
    )

    def __getattr__(self, name: str) -> float:
        """The weight of a loss from outside the package."""
        if name.startswith("_") or name not in (*dict(self.extra), *outside_names(LOSSES)):
            raise AttributeError(f"no loss option {name}")
        return dict(self.extra).get(name, 0.0)


@dataclass(frozen=True)
class TrainSpec:
    """The optimiser and the length of a run (METHOD.md sections 3 and 4)."""

    epochs: int = option(50, "epochs", low=1)
    lr: float = option(3e-3, "initial learning rate", low=0.0)
    lr_gamma: float = option(0.001, "lr * (1 + lr_gamma * step) ** -lr_power", low=0.0)
    lr_power: float = option(0.75, "see lr_gamma", low=0.0)
    momentum: float = option(0.9, "SGD momentum", low=0.0, high=0.9999)
    batch_size: int = option(32, "rows per domain and step", low=2)
    max_steps: int = option(1500, "most steps in an epoch", low=1)
    min_steps: int = option(10, "least steps in an epoch (ours); 1 is the released code's", low=1)
    prior_momentum: float = option(0.99, "momentum of the label prior q (eq. 9)", low=0.0, high=1.0)
    reset_probability: float = option(
        0.5, "chance per epoch that a weight-generator tensor restarts", low=0.0, high=1.0
    )
    precision: str = option(
        "fp32",
        "arithmetic; bf16: of the layers' products; auto: what suits the device",
        choices=("fp32", "fp64", "bf16", "auto"),
    )
    source_holdout: float = option(
        0.0, "share of source rows kept back for the validators source and dev", low=0.0, high=0.5
    )
    text: str = option(
        "prompts",
        "text features: the prompts', or fused with a source probe (ours; loses where prompts are strong)",
        choices=("prompts", "fused"),
    )


@dataclass(frozen=True)
class EvalSpec:
    """Inference on the whole target and the pseudo-labels it yields (METHOD.md section 4)."""

    debias_tau: float = option(0.5, "strength of the label-prior debiasing (eq. 9); 0 turns it off", low=0.0)
    w_start: float = option(0.8, "weight of VAC at inference in epoch 0", low=0.0, high=1.0)
    w_end: float = option(0.3, "weight of VAC at inference from epoch w_epochs on", low=0.0, high=1.0)
    w_epochs: int = option(10, "epochs in which the inference weight goes from w_start to w_end", low=1)
    pseudo_labels: str = option(
        "alternate", "alternate cluster labels with argmax, or cluster at every epoch", choices=("alternate", "cluster")
    )


@dataclass(frozen=True)
class MethodSpec:
    """All options of stage two except the data and the seed."""

    heads: HeadSpec = field(default_factory=HeadSpec)
    loss: LossSpec = field(default_factory=LossSpec)
    train: TrainSpec = field(default_factory=TrainSpec)
    eval: EvalSpec = field(default_factory=EvalSpec)


VARIANTS: dict[str, dict[str, Any]] = {  # the ablations of table 5, and ours (METHOD.md section 7)
    "full": {},
    "no-ortho": {"loss.ortho": False},
    "no-debias": {"eval.debias_tau": 0.0},
    "no-im": {"loss.im": False},
    "no-distill": {"loss.distill": False},
    "fixed-weight": {"loss.ensemble_weight": "fixed"},
    "no-discriminator": {"loss.discriminator": False},
    "fused-teacher": {"train.text": "fused"},
}
OUR_VARIANTS = ("fused-teacher",)  # variants that are not in the paper


def display_name(label: str) -> str:
    """Return a variant's name for tables; variants that are not in the paper get ``(ours)``."""
    variant, comma, rest = label.partition(",")
    return f"{variant} (ours){comma}{rest}" if variant in OUR_VARIANTS else label


def setting_fields(method: str = "") -> list[tuple[str, Any]]:
    """(dotted name, field) of every option of UniMoS, and of the settings of a method from outside the package."""
    outside = outside_method(method) if method in outside_names(METHODS) else None
    own = fields(outside.settings) if outside and outside.settings else ()
    return [*option_fields(MethodSpec), *((f"{method}.{entry.name}", entry) for entry in own)]


def parse_setting(text: str, types: Mapping[str, Any] | None = None) -> tuple[str, Any]:
    """Read one ``section.key=value`` of the command line; the value takes the option's own type.

    Raises:
        InputError: no ``=``, an unknown name (lists the known ones), or a value of the wrong type.
    """
    name, equals, raw = text.partition("=")
    types = types or {key: entry.type for key, entry in setting_fields(name.partition(".")[0])}
    if not equals:
        raise InputError((Argument("settings"), f" {text}"), expected="section.key=value", got=repr(text))
    if name not in types:
        raise InputError((Argument("settings"), f" {name}: no such option; {suggestions(name, types, 60)}"))
    option_type = types[name]
    try:
        if option_type is bool:
            return name, {"true": True, "false": False}[raw.lower()]
        return name, option_type(raw)
    except (ValueError, KeyError):
        raise InputError((Argument("settings"), f" {name}"), expected=option_type.__name__, got=repr(raw)) from None


def method_spec(variant: str = "full", settings: Mapping[str, Any] | None = None, where: str = "options") -> MethodSpec:
    """Return the spec of a variant with single options changed.

    Args:
        variant: a key of :data:`VARIANTS`.
        settings: values by dotted name, in addition to the variant's changes.
    Raises:
        InputError: an unknown variant, option or value, or an option that the variant itself sets.
    """
    if variant not in VARIANTS:
        raise InputError(f"{where}: unknown variant {variant!r}; {suggestions(variant, VARIANTS)}")
    settings = settings or {}
    if clash := [name for name in settings if name in VARIANTS[variant]]:
        raise InputError(f"{where}: variant {variant} is defined by {join_names(clash)}; do not set it as well")
    spec = parse_dataclass(MethodSpec, nest_settings({**settings, **VARIANTS[variant]}), where)
    for name, _ in spec.loss.extra:
        find_outside(LOSSES, name)  # its module is imported now
    return spec


def with_native_logit_scale(settings: Mapping[str, Any], scale: float | None) -> dict[str, Any]:
    """Return the options with an encoder's learned 1/T as ``heads.temperature_scale``, unless they set one."""
    return {**({"heads.temperature_scale": scale} if scale else {}), **settings}
