"""Inputs of a method. Target labels have a separate type that only evaluation uses."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from unimos_pipe.base.dataclass_parsing import fingerprint
from unimos_pipe.base.device import pick_device, precision_on_device
from unimos_pipe.base.errors import Argument, InputError, StaleCacheError
from unimos_pipe.base.method_config import CLIP_LOGIT_SCALE, MethodSpec, TrainSpec
from unimos_pipe.cache.encoder_identity import EncoderIdentity
from unimos_pipe.cache.feature_checks import NORM_TOLERANCE
from unimos_pipe.cache.store import DomainFeatures, FeatureStore
from unimos_pipe.data.dataset_spec import DatasetSpec
from unimos_pipe.data.label_file import label_file
from unimos_pipe.data.manifest import NO_LABEL, UNKNOWN_CLASS
from unimos_pipe.runs.method_names import text_fault

TAUGHT = -1  # origin of target rows that have joined the source with their labels


@dataclass(frozen=True)
class LabelledFeatures:
    """Source: (n, D) unit-norm features and (n,) int64 labels. Equal names mean equal features.

    ``origins`` (n,) int64 is the number of each row's domain, 0, 1, ..., if the source has several; TAUGHT for labelled
    target rows that have joined it. ``weights`` (n,) of the rows have mean one; None: all one, or every domain counts
    the same.
    """

    features: torch.Tensor
    labels: torch.Tensor
    name: str = "source"
    origins: torch.Tensor | None = None
    weights: torch.Tensor | None = None

    def subset(self, rows: torch.Tensor, name: str = "source") -> "LabelledFeatures":
        """Return some rows, by number or mask, under another name."""
        origins = None if self.origins is None else self.origins[rows]
        weights = None if self.weights is None else self.weights[rows]
        return LabelledFeatures(self.features[rows], self.labels[rows], name, origins, weights)


@dataclass(frozen=True)
class UnlabelledFeatures:
    """Target as a method sees it: (n, D) unit-norm features and a name."""

    features: torch.Tensor
    name: str = "target"


@dataclass(frozen=True)
class TargetLabels:
    """Labels of target rows that the user gives to training: numbers (m,) of target rows, and (m,) int64 labels."""

    rows: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class AdaptationTask:
    """A pair of domains for training. ``text_features`` (K, D) are the target's prompts, unit norm.

    They are zeros for image features without text, see :attr:`has_text`.
    ``logit_scale`` times the cosine is a zero-shot logit: CLIP's scale, or a model's own. ``target_labels`` are None
    unless the user gives labels of target rows to training.
    """

    source: LabelledFeatures
    target: UnlabelledFeatures
    text_features: torch.Tensor
    logit_scale: float = CLIP_LOGIT_SCALE
    target_labels: TargetLabels | None = None

    def __post_init__(self):
        for name, side in (("source", self.source), ("target", self.target)):
            if len(side.features) < 2:
                raise InputError(f"the {name} domain is too small", expected="at least 2 rows", got=len(side.features))
        if len(self.source.features) != len(self.source.labels):
            raise InputError(
                "the source domain", expected=f"{len(self.source.features)} labels", got=len(self.source.labels)
            )

    @property
    def has_text(self) -> bool:
        """False for image features without text, on which methods of text cannot run."""
        return bool(self.text_features.any())

    def __repr__(self) -> str:
        classes, dim = self.text_features.shape
        return (
            f"<AdaptationTask: {len(self.source.features):,} source and {len(self.target.features):,} target rows, "
            f"{classes} classes, D = {dim}>"
        )


@dataclass(frozen=True)
class HeldOutLabels:
    """Labels for scoring a run, not available to training; only evaluation uses this type.

    ``labels`` is (n,) int64, NO_LABEL for a row without a label, or None if no row has one. Inductive runs also hold
    out rows: ``features`` (n, D) are those of the target's test split; None means that the labels are those of the
    task's target rows.
    """

    labels: np.ndarray | None
    classes: tuple[str, ...]
    metric: str = "accuracy"  # the figure published for the data set: accuracy or per_class_mean
    features: torch.Tensor | None = None
    unknown: np.ndarray | None = (
        None  # (n,) bool, rows that are known to be of none of the classes; None: of none known
    )

    @property
    def labelled(self) -> np.ndarray:
        """Positions of the labelled rows."""
        return np.flatnonzero(np.empty(0) if self.labels is None else self.labels != NO_LABEL)

    def rows(self, task: AdaptationTask) -> torch.Tensor:
        """Return the (n, D) features of the scored rows."""
        return task.target.features if self.features is None else self.features


@dataclass(frozen=True)
class PairData:
    """A loaded pair: the task, the labels for scoring, and the metadata of the run's records."""

    task: AdaptationTask
    held_out: HeldOutLabels
    scored_paths: tuple[str, ...]  # of the rows that are scored
    encoder: EncoderIdentity
    shard_digests: dict[str, list[str]]  # of all that training sees: features, prompts, the source's labels and classes
    scored_labels: list[str]  # of the labels and class names that only scoring sees
    dataset_file: str | None = None  # absolute path of the data set's spec; None for a data set of the package

    def without_taught_labels(self) -> "PairData":
        """Return the pair without the labels for scoring that training has."""
        taught, labels = self.task.target_labels, self.held_out.labels
        if taught is None or labels is None or self.held_out.features is not None:
            return self
        labels = labels.copy()
        labels[taught.rows.cpu().numpy()] = NO_LABEL
        labels = labels if (labels != NO_LABEL).any() else None
        return replace(self, held_out=replace(self.held_out, labels=labels))


def training_dtype(precision: str) -> torch.dtype:
    """Return the dtype of features and weights for a ``train.precision``; bf16 applies to matrix products only."""
    return {"fp32": torch.float32, "fp64": torch.float64, "bf16": torch.float32}[precision]


def check_text(data: PairData, method: str) -> None:
    """Raise InputError if a method reads text features and the features of a pair have none."""
    if not data.task.has_text and (fault := text_fault(method)):
        raise InputError((f"the features by {data.encoder.model!r} have no text, and ", *fault))


def resolve_train_precision(method: MethodSpec, device: str | torch.device) -> MethodSpec:
    """Return the method with ``train.precision`` ``auto`` resolved for a device. Runs of other precision differ.

    Raises:
        InputError: the device does not exist.
    """
    torch_device = pick_device(device) if isinstance(device, str) else device
    precision = precision_on_device(method.train.precision, torch_device)
    return replace(method, train=replace(method.train, precision=precision))


def unit_rows(features: torch.Tensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return (n, D) stored features in the training dtype, normalised again (METHOD.md section 1)."""
    return F.normalize(features.to(device=device, dtype=dtype), dim=-1)


def load_unit_rows(domain: DomainFeatures, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return a cached domain's (n, D) :func:`unit_rows`. Raises StaleCacheError if a row is not of unit norm."""
    features = torch.from_numpy(domain.features).to(device=device, dtype=dtype)
    norms = torch.linalg.vector_norm(features, dim=-1)
    wrong = ~((norms - 1).abs() < NORM_TOLERANCE)  # not finite is wrong, too
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise StaleCacheError(
            f"{domain.name}: {int(wrong.sum())} stored feature(s), the first of {domain.paths[row]}",
            expected="finite, of unit norm",
            got=f"a norm of {norms[row].item():.4g}",
            todo=("Extract them again with ", Argument("force", True)),
        )
    return unit_rows(features, dtype, device)


class PairLoader:
    """Loads pairs of one store onto one device, each domain once."""

    def __init__(self, store: FeatureStore, templates: tuple[str, ...], device: torch.device):
        self.store, self.templates, self.device = store, templates, device
        self._domains: dict[tuple[str, ...], DomainFeatures] = {}
        self._rows: dict[tuple, torch.Tensor] = {}

    def _load(self, parts: tuple[str, ...], dtype: torch.dtype) -> tuple[DomainFeatures, torch.Tensor]:
        """Return parts of a domain as one domain, and their unit-norm features on the device."""
        if parts not in self._domains:
            self._domains[parts] = self.store.domain(*parts)
            self.store.check_labels(self._domains[parts])
        domain = self._domains[parts]
        if (parts, dtype) not in self._rows:
            self._rows[parts, dtype] = load_unit_rows(domain, dtype, self.device)
        return domain, self._rows[parts, dtype]

    def _source(
        self, parts: list[tuple[str, ...]], dtype: torch.dtype
    ) -> tuple[list[DomainFeatures], LabelledFeatures]:
        """Return domains by their parts, and their rows concatenated. Raises InputError if a row has no label."""
        loaded = [self._load(domain_parts, dtype) for domain_parts in parts]
        domains = [domain for domain, _ in loaded]
        for domain in domains:
            if (domain.labels == NO_LABEL).any():
                raise InputError(f"source domain {domain.name} has images without a label; only a target may have them")
        labels = torch.from_numpy(np.concatenate([domain.labels for domain in domains])).to(self.device)
        name = "+".join(part for domain_parts in parts for part in domain_parts)
        if len(loaded) == 1:
            return domains, LabelledFeatures(loaded[0][1], labels, name)
        if (*parts, dtype) not in self._rows:
            self._rows[*parts, dtype] = torch.cat([rows for _, rows in loaded])
        counts = torch.tensor([len(rows) for _, rows in loaded], device=self.device)
        origins = torch.arange(len(loaded), device=self.device).repeat_interleave(counts)
        return domains, LabelledFeatures(self._rows[*parts, dtype], labels, name, origins)

    def _text(self, target: str, domain: DomainFeatures) -> tuple[torch.Tensor, list[str]]:
        """Return the (K, D) text features of a target's prompts and their digest; zeros and none without text."""
        if not self.store.has_text(domain.encoder):
            return torch.zeros(len(self.store.spec.classes), domain.features.shape[1]), []
        text, digest = self.store.text(target, self.templates, domain.encoder)
        return torch.tensor(text), [digest]

    def pair(
        self,
        source: str,
        target: str,
        protocol: str = "transductive",
        precision: str = TrainSpec.precision,
        *,
        use_target_labels: bool = False,
    ) -> PairData:
        """Load source, target and the target's prompts. ``art+photo`` is a source of two domains, concatenated.

        Transductive runs train on and are scored on the whole target. Inductive runs train on the train split of both
        domains and are scored on the target's test split.

        Args:
            precision: the run's ``train.precision``, which determines the features' dtype.
            use_target_labels: give the labels of the target rows that it trains on to training.
        Raises:
            InputError: unknown or repeated domains, missing shards, an unlabelled source, fewer than 2 rows, an
                inductive pair of a data set without splits, or target labels of which there are none.
            StaleCacheError: shards that are damaged or do not match each other.
        """
        spec, dtype = self.store.spec, training_dtype(precision)
        names = spec.parse_sources(source, target)
        train_parts = 1 if spec.protocol(protocol) == "inductive" else None  # of (train, test)
        sources, labelled = self._source([spec.parts(name)[:train_parts] for name in names], dtype)
        target_domain, target_features = self._load(spec.parts(target)[:train_parts], dtype)
        scored, test_features = target_domain, None
        if train_parts is not None:
            scored, test_features = self._load(spec.parts(target)[train_parts:], dtype)
        for domain in (*sources, scored):
            _check_same_encoder(domain, target_domain)
        text, text_digests = self._text(target, target_domain)
        task = AdaptationTask(
            labelled,
            UnlabelledFeatures(target_features, "+".join(spec.parts(target)[:train_parts])),
            unit_rows(text, dtype, self.device),
            self.store.read_logit_scale() or CLIP_LOGIT_SCALE,
        )
        taught = _take_target_labels(target_domain, self.device) if use_target_labels else None
        labels = scored.labels if (scored.labels != NO_LABEL).any() else None
        unknown = _read_unknown_rows(spec, target, scored.paths)
        held_out = HeldOutLabels(labels, spec.classes, spec.metric, test_features, unknown)
        task = replace(task, target_labels=taught)
        digests = {part: list(digests) for side in (*sources, target_domain, scored) for part, digests in side.digests}
        seen_labels = [digest for domain in sources for _, digest in domain.label_digests]
        scored_labels = [digest for _, digest in scored.label_digests]
        scored_labels += [] if unknown is None else [fingerprint(np.flatnonzero(unknown).tolist())]
        digests |= {"text": text_digests, "source labels": seen_labels}
        digests |= {"target labels": [digest for _, digest in target_domain.label_digests]} if taught else {}
        return PairData(task, held_out, scored.paths, target_domain.encoder, digests, scored_labels, spec.own_file)


def _read_unknown_rows(spec: DatasetSpec, domain: str, paths: Sequence[str]) -> np.ndarray | None:
    """Return (n,) bool: the rows that the domain's label file calls unknown; None if it calls none so."""
    if not spec.domain(domain).manifest:
        return None
    labels = label_file(spec, domain).read()
    unknown = np.array([labels.get(path) == UNKNOWN_CLASS for path in paths])
    return unknown if unknown.any() else None


def _take_target_labels(domain: DomainFeatures, device: torch.device) -> TargetLabels:
    """Return the labels of a target domain. Raises InputError if it has none."""
    rows = np.flatnonzero(domain.labels != NO_LABEL)
    if not len(rows):
        raise InputError(
            ("target labels are to be used, and no image of ", domain.name, " has one"),
            todo="Label some in its CSV and extract again",
        )
    return TargetLabels(torch.from_numpy(rows).to(device), torch.from_numpy(domain.labels[rows]).to(device))


def _check_same_encoder(source: DomainFeatures, target: DomainFeatures) -> None:
    if source.encoder != target.encoder:
        raise InputError(
            (
                f"domains {source.name} and {target.name} were encoded differently; extract one of them again with ",
                Argument("force", True),
            )
        )
