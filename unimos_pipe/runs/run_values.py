"""Types of the values in ``config.json`` and ``result.json``.

Accuracies, shares and probabilities are fractions. Keys that earlier versions did not write have defaults.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any

from unimos_pipe.base.record_parsing import OMIT_NONE
from unimos_pipe.runs.method_names import UNIMOS
from unimos_pipe.runs.unknown_option import OFF

Share = Annotated[float, ("minimum", 0), ("maximum", 1)]  # a fraction


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Accuracies on the labelled rows, as fractions.

    A class without a labelled row has None and is excluded from the per-class mean. ``interval`` is the 95% Wilson
    interval of the accuracy over all rows, if the labelled rows are a random sample.
    """

    accuracy: Share
    per_class_mean: Share | None = None
    per_class: tuple[Share | None, ...] = ()
    interval: tuple[Share, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class EpochScores:
    """Accuracies of the ensemble after one epoch; None without labels."""

    epoch: int
    accuracy: Share | None = None
    per_class_mean: Share | None = None


@dataclass(frozen=True, kw_only=True)
class Accuracies:
    """Scores of a run. UniMoS alone has its two branches and the best epoch by target labels, an oracle.

    ``zero_shot`` is None for image features without text.
    """

    last: Scores
    vac: Scores | None = field(default=None, metadata=OMIT_NONE)
    lac: Scores | None = field(default=None, metadata=OMIT_NONE)
    zero_shot: Scores | None = field(default=None, metadata=OMIT_NONE)
    oracle_best: EpochScores | None = field(default=None, metadata=OMIT_NONE)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Label-free diagnostics of a run's predictions, see ``evaluation/diagnostics.py``.

    ``accuracy``, ``low`` and ``high`` are None if they cannot be estimated; ``reason`` says why. ``outvoted`` is the
    share of rows on which zero-shot and stacked fusion agree on another class.
    """

    accuracy: Share | None = None
    low: Share | None = None
    high: Share | None = None
    reason: str | None = None
    neighbour_agreement: float | None = None
    stacked_probability: Share | None = None
    agreement: dict[str, Share] = field(default_factory=dict)  # by reference method
    outvoted: Share | None = None
    branches: Share | None = None  # agreement of VAC and LAC
    confidence: Share | None = None
    class_shares: tuple[Share, ...] = ()  # (K,) of the predictions
    source_shares: tuple[Share, ...] = ()  # (K,)
    total_variation: Share | None = None


@dataclass(frozen=True)
class Calibration:
    """A run's temperature, the number of rows it was fitted on, and the seconds that took.

    ``basis`` is "source" (held-out source rows; for auto the mean probability of the target's predictions matches that
    of stacked fusion, which is fitted to them) or "estimate" (it matches the estimated accuracy).
    """

    temperature: float
    rows: int = 0
    seconds: float = 0.0
    basis: str = "source"


@dataclass(frozen=True)
class CalibrationMetrics:
    """Metrics of probabilities against labels: ``ece`` (fraction), ``nll`` (nats), ``brier`` (0 to 2)."""

    ece: float
    nll: float | None = None
    brier: float | None = None


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Calibration metrics before and after calibration."""

    raw: CalibrationMetrics
    calibrated: CalibrationMetrics | None = field(default=None, metadata=OMIT_NONE)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """auto's explanation, and the agreement of its head with the target predictions and with zero-shot."""

    reason: str
    head_agreement: Share | None = None
    text_agreement: Share | None = None


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Whose predictions are whose: ``predictions`` made ``predictions.csv``, ``model`` predicts new images.

    ``agreement`` is the share of the fitted target rows of which the method and its linear head predict the same class.
    """

    predictions: str
    model: str
    agreement: Share


@dataclass(frozen=True, kw_only=True)
class UnknownScores:
    """Metrics of unknown rows against labels, as fractions, see ``evaluation/open_set.py``.

    ``known_before`` and ``known_after`` are the accuracies on known rows: of the most likely classes, and with rows
    that are called unknown as wrong. ``found`` is the share of unknown rows that are called so. ``best_h_score`` is
    that of the best threshold by labels, an oracle.
    """

    known_rows: int
    unknown_rows: int
    known_before: Share
    known_after: Share
    found: Share
    h_score: Share
    best_h_score: Share
    auroc: Share
    oscr: Share


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """Rows of none of the classes: those whose unknown score is at least ``threshold``, and their share.

    ``otsu_share`` and ``source_share`` bound the share that is chosen without labels, and ``separability`` scales it
    (methods/unknown_score.py).
    """

    threshold: float
    share: Share
    otsu_share: Share
    source_share: Share
    separability: Share | None = None
    scores: UnknownScores | None = field(default=None, metadata=OMIT_NONE)  # where labels mark unknown rows


@dataclass(frozen=True, kw_only=True)
class RunMetrics:
    """Values of ``result.json``."""

    protocol: str | None = None
    metric: str
    source_rows: int | None = None
    target_rows: int = 0
    scored_rows: int | None = None
    labelled_rows: int | None = None  # that are scored
    taught_rows: int | None = field(default=None, metadata=OMIT_NONE)  # target rows whose labels training had
    classes: int = 0
    accuracy: Accuracies | None = None  # None without target labels
    selected: dict[str, EpochScores] = field(default_factory=dict)  # by validator
    choice: Choice | None = field(default=None, metadata=OMIT_NONE)
    answers: Answers | None = field(default=None, metadata=OMIT_NONE)  # of methods that end in a linear head
    seconds: float
    stack: dict[str, Any] | None = field(default=None, metadata=OMIT_NONE)  # number of runs, fingerprint
    command: str | None = field(default=None, metadata=OMIT_NONE)
    dataset_file: str | None = field(default=None, metadata=OMIT_NONE)  # absolute path of a spec of the user's own
    validators: dict[str, float] = field(default_factory=dict)  # after the last epoch, for the selection of settings
    estimate: Estimate = field(default_factory=Estimate)
    calibration: Calibration | None = None
    reliability: Reliability | None = None
    unknown: Unknown | None = field(default=None, metadata=OMIT_NONE)


@dataclass(frozen=True, kw_only=True)
class RecordedSpec:
    """Spec of a finished run, see :class:`unimos_pipe.runs.run_spec.RunSpec`.

    ``options`` are tables, since runs of other versions may have other options. ``changed`` are the options that differ
    from the variant's defaults, by dotted name.
    """

    dataset: str
    encoder_id: str
    source: str
    target: str
    variant: str
    seed: int
    templates: tuple[str, ...] = ()
    options: dict[str, dict[str, Any]]
    protocol: str = "transductive"
    method: str = UNIMOS
    label_set: str = ""
    calibrate: bool = False
    settings: dict[str, Any] = field(default_factory=dict)  # of a method from outside the package
    use_target_labels: bool = False
    unknown: str = OFF
    changed: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Values of ``config.json``."""

    identity: str
    training: str | None = field(default=None, metadata=OMIT_NONE)
    spec: RecordedSpec
    label: str
    classes: tuple[str, ...]
    encoder: dict[str, Any]  # of cache/encoder_identity.py
    shards: dict[str, tuple[str, ...]] = field(default_factory=dict)
    code: dict[str, str] | None = field(default=None, metadata=OMIT_NONE)
    citation: str | None = field(default=None, metadata=OMIT_NONE)
    environment: dict[str, Any] = field(default_factory=dict)
