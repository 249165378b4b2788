"""What a trainer may see. Target labels live in a type of their own that only evaluation takes."""

from dataclasses import dataclass

import numpy as np
import torch

from unimos_pipe.errors import UserError
from unimos_pipe.manifest import NO_LABEL
from unimos_pipe.store import DomainFeatures, FeatureStore, unit_rows


@dataclass(frozen=True)
class LabelledFeatures:
    """The source: (n, D) unit-norm features and (n,) int64 labels."""

    features: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class UnlabelledFeatures:
    """The target as a trainer sees it: (n, D) unit-norm features and nothing else."""

    features: torch.Tensor


@dataclass(frozen=True)
class AdaptationTask:
    """One pair of domains for the trainer. ``text_features`` (K, D) are the target's prompts, unit norm."""

    source: LabelledFeatures
    target: UnlabelledFeatures
    text_features: torch.Tensor

    def __post_init__(self):
        for name, side in (("source", self.source), ("target", self.target)):
            if len(side.features) < 2:
                raise UserError(f"the {name} domain is too small", expected="at least 2 rows", got=len(side.features))
        if len(self.source.features) != len(self.source.labels):
            raise UserError(
                "the source domain", expected=f"{len(self.source.features)} labels", got=len(self.source.labels)
            )


@dataclass(frozen=True)
class HeldOutLabels:
    """The target's labels, (n,) int64 or None. Only :mod:`unimos_pipe.evaluate` takes this type."""

    labels: np.ndarray | None
    classes: tuple[str, ...]


@dataclass(frozen=True)
class PairData:
    """A pair as loaded: the trainer's task, evaluation's labels, and what the run's records need."""

    task: AdaptationTask
    held_out: HeldOutLabels
    target_paths: tuple[str, ...]
    shard_digests: dict[str, list[str]]


class PairLoader:
    """Loads pairs of one store, each domain once, onto one device."""

    def __init__(self, store: FeatureStore, templates: tuple[str, ...], dtype: torch.dtype, device: torch.device):
        self.store, self.templates, self.dtype, self.device = store, templates, dtype, device
        self._domains: dict[str, tuple[DomainFeatures, torch.Tensor]] = {}

    def _domain(self, name: str) -> tuple[DomainFeatures, torch.Tensor]:
        if name not in self._domains:
            domain = self.store.domain(name)
            self._domains[name] = domain, unit_rows(domain.features, self.dtype, self.device)
        return self._domains[name]

    def pair(self, source: str, target: str) -> PairData:
        """Load source, target and the target's prompts.

        Raises:
            UserError: the same domain twice, missing shards, an unlabelled source, or fewer than 2 rows.
            StaleCacheError: shards that are damaged or do not fit each other.
        """
        if source == target:
            raise UserError(f"source and target are both {source!r}; adaptation needs two domains")
        source_domain, source_features = self._domain(source)
        target_domain, target_features = self._domain(target)
        if (source_domain.labels == NO_LABEL).any():
            raise UserError(f"source domain {source} has images without a label; only a target may have them")
        _same_encoder(source_domain, target_domain)
        text, text_digest = self.store.text(target, self.templates, target_domain.encoder)
        labels = torch.from_numpy(source_domain.labels).to(self.device)
        task = AdaptationTask(
            LabelledFeatures(source_features, labels),
            UnlabelledFeatures(target_features),
            unit_rows(text, self.dtype, self.device),
        )
        labelled = not (target_domain.labels == NO_LABEL).any()
        held_out = HeldOutLabels(target_domain.labels if labelled else None, self.store.spec.classes)
        digests = {source: list(source_domain.digests), target: list(target_domain.digests), "text": [text_digest]}
        return PairData(task, held_out, target_domain.paths, digests)


def _same_encoder(source: DomainFeatures, target: DomainFeatures) -> None:
    if source.encoder != target.encoder:
        raise UserError(
            f"domains {source.name} and {target.name} were encoded differently; extract one of them again with --force"
        )
