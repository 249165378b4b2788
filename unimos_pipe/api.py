"""The whole pipeline from Python, for notebooks: extract, open a store, make a task, adapt, predict.

    store = unimos_pipe.extract_features("icons")
    task = unimos_pipe.make_task(store, "line", "sketch")
    model = unimos_pipe.adapt_task(task, on_epoch=lambda epoch: print(epoch.epoch, epoch.accuracy))
    model.predict(["photo.jpg"]).labels

Nothing here writes a run folder; the command line does, and keeps everything a report needs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from unimos_pipe.adapt.scores import score
from unimos_pipe.base.config import DEFAULT_TEMPLATE, EncoderSpec, method_spec
from unimos_pipe.base.device import pick_device
from unimos_pipe.base.encoders import ENCODERS
from unimos_pipe.base.errors import RunError, UserError, listing
from unimos_pipe.cache.identity import encoder_id
from unimos_pipe.cache.layout import default_cache, find_encoder_folder
from unimos_pipe.cache.store import FeatureStore
from unimos_pipe.data.manifest import load_spec
from unimos_pipe.data.scan import find_root, scan
from unimos_pipe.deploy.model import FORMAT, AdaptedModel
from unimos_pipe.extract.domain import extract_images, extract_text
from unimos_pipe.extract.encoder import ClipEncoder
from unimos_pipe.methods.task import PairData, PairLoader
from unimos_pipe.methods.unimos.pseudo_labels import Assessment
from unimos_pipe.methods.unimos.schedules import BEFORE_TRAINING
from unimos_pipe.methods.unimos.trainer import Trainer, seeded_run


@dataclass(frozen=True)
class Task:
    """One pair of domains, loaded. ``data.task`` holds the (n, D) features that training sees."""

    store: FeatureStore
    source: str
    target: str
    templates: tuple[str, ...]
    data: PairData


@dataclass(frozen=True)
class Epoch:
    """What :func:`adapt_task` tells after an epoch; -1 is the evaluation before training.

    ``losses``: mean of each term over the epoch's steps. ``train_weight``: mean learned w. ``accuracy``: of the
    ensemble on the whole target, a fraction, None without labels. ``assessment``: all (n, ...) answers.
    """

    epoch: int
    losses: Mapping[str, float]
    train_weight: float | None
    accuracy: float | None
    assessment: Assessment


def extract_features(
    dataset: str = "icons",
    *,
    domains: Sequence[str] = (),
    root: str | Path | None = None,
    cache: str | Path | None = None,
    encoder: str | EncoderSpec | None = None,
    templates: Sequence[str] = (DEFAULT_TEMPLATE,),
    device: str = "auto",
) -> FeatureStore:
    """Encode a data set's images and prompts into the cache; what is there and fits is kept.

    Args:
        dataset: a known data set's name, or the path of a spec file.
        domains: their names; empty = all.
        root: folder that holds the domains' folders; embedded data needs none.
        cache: default: ``$UNIMOS_CACHE``, else the user's cache folder.
        encoder: a preset's name or a spec; None takes the data set's.
    Raises:
        UserError, StaleCacheError, RunError: as ``unimos-pipe extract`` reports them.
    """
    spec = load_spec(dataset)
    wanted = _encoder(encoder or spec.encoder)
    place = Path(cache) if cache else default_cache()
    images = find_root(spec, Path(root) if root else None, place)
    names = tuple(domains) or tuple(spec.domains)
    manifests = [scan(spec, part, images) for name in names for part in spec.parts(name)]
    loaded = ClipEncoder(wanted, pick_device(device))
    folder = place / spec.name / encoder_id(wanted, loaded.identity)
    for name in names:
        word = spec.domain(name).word
        extract_text(spec.name, word, spec.classes, tuple(templates), loaded, folder, spec.wording())
    for manifest in manifests:
        extract_images(manifest, loaded, folder)
    return FeatureStore(spec, folder, _extract_command(dataset))


def open_store(
    dataset: str = "icons",
    *,
    cache: str | Path | None = None,
    encoder: str | EncoderSpec | None = None,
    encoder_id: str | None = None,
) -> FeatureStore:
    """The cached features of a data set, found without images or weights. Arguments as :func:`extract_features`.

    Args:
        encoder_id: the cache folder's name, where several fit.
    Raises:
        UserError: none there, or several.
    """
    spec = load_spec(dataset)
    place = Path(cache) if cache else default_cache()
    command = _extract_command(dataset)
    folder = find_encoder_folder(place, spec.name, _encoder(encoder or spec.encoder), encoder_id, f"{command} --all")
    return FeatureStore(spec, folder, command)


def make_task(
    store: FeatureStore,
    source: str,
    target: str,
    *,
    templates: Sequence[str] = (DEFAULT_TEMPLATE,),
    dtype: torch.dtype = torch.float32,
    device: str = "auto",
) -> Task:
    """Load a labelled source and an unlabelled target, (n, D) unit-norm features each, and the (K, D) prompts.

    Raises:
        UserError, StaleCacheError: missing, damaged or unfitting features.
    """
    loader = PairLoader(store, tuple(templates), dtype, pick_device(device))
    return Task(store, source, target, tuple(templates), loader.pair(source, target))


def adapt_task(
    task: Task,
    *,
    variant: str = "full",
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> AdaptedModel:
    """Train the heads and return the adapted model of the last epoch.

    Args:
        variant: full, or an ablation such as no-im.
        settings: changed options by dotted name, such as ``{"train.epochs": 20, "loss.gamma": 0.05}``.
        seed: of everything random.
        on_epoch: called before training and after every epoch.
    Raises:
        UserError: unknown options or values.
        RunError: training that diverged.
    """
    method = method_spec(variant, settings, "adapt_task")
    trainer = Trainer([seeded_run(task.data.task, method, seed)])
    accuracy = {}
    for epoch, records in trainer.train():
        for record in records:
            found = score(record.assessment.predictions, task.data.held_out)
            value = found.accuracy if found else None
            accuracy["zero_shot" if epoch == BEFORE_TRAINING else "last"] = value
            if epoch == BEFORE_TRAINING and found:
                accuracy["zero_shot"] = score(record.assessment.text_predictions, task.data.held_out).accuracy
            on_epoch(Epoch(epoch, record.losses, record.train_weight, value, record.assessment))
    if trainer.failures:
        raise RunError(trainer.failures[0])
    config = {
        "format": FORMAT,
        "classes": list(task.store.spec.classes),
        "encoder": asdict(task.data.encoder),
        "encoder_id": task.store.folder.name,
        "method": asdict(method),
        "about": {
            "dataset": task.store.spec.name,
            "source": task.source,
            "target": task.target,
            "variant": variant,
            "seed": seed,
            "templates": list(task.templates),
            "accuracy": None if None in accuracy.values() else accuracy,
            "rows": {"source": len(task.data.task.source.features), "target": len(task.data.task.target.features)},
        },
    }
    tensors = {**trainer.state(0), "text_features": task.data.task.text_features}
    return AdaptedModel(config, tensors, task.data.task.text_features.device.type)


def _encoder(encoder: str | EncoderSpec) -> EncoderSpec:
    if isinstance(encoder, EncoderSpec):
        return encoder
    if encoder not in ENCODERS:
        raise UserError(f"unknown encoder {encoder!r}; known: {listing(ENCODERS, 20)}; others as an EncoderSpec")
    return ENCODERS[encoder]


def _extract_command(dataset: str) -> str:
    return f"unimos-pipe extract --dataset {dataset}"
