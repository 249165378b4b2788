"""Features of two encoders as those of one: image features of both, text features of the first.

A row is (a, b) / sqrt(2) of the unit-norm features a and b of an image. A text feature is (t, 0), so that its cosine to
a row is that of t and a divided by sqrt(2); a logit scale of sqrt(2) times the first encoder's is stored with it.
Zero-shot thus answers as the first encoder alone does, and probes see both.
"""

from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path

import numpy as np

from unimos_pipe.base.atomic_io import check_writable_folder
from unimos_pipe.base.errors import InputError, StaleCacheError, join_names
from unimos_pipe.base.method_config import CLIP_LOGIT_SCALE
from unimos_pipe.base.safe_open import list_folder
from unimos_pipe.cache.cache_paths import default_cache, find_encoder_by_name, index_path
from unimos_pipe.cache.encoder_identity import imported_id, imported_identity
from unimos_pipe.cache.external_features import (
    ImportedDomain,
    check_encoder_name,
    write_imported_domain,
    write_imported_text,
)
from unimos_pipe.cache.feature_calls import extract_call, import_or_extract_call
from unimos_pipe.cache.shard import TextHeader, TextShard, read_text_shard
from unimos_pipe.cache.store import DomainFeatures, FeatureStore
from unimos_pipe.data.dataset_spec import DatasetSpec, load_spec
from unimos_pipe.extract.write_shards import library_versions


@dataclass(frozen=True)
class CombineResult:
    """Result of a combination: the encoder's cache folder, rows by domain or split, D, and whether it has text."""

    dataset: DatasetSpec
    folder: Path
    rows: dict[str, int]
    dim: int
    has_text: bool


def combine_features(
    dataset: str, first: str, second: str, encoder_name: str, *, cache: str | Path | None = None, force: bool = False
) -> CombineResult:
    """Write the features of two encoders as those of a new one, for every domain that both have.

    The new features do not change when those of the two encoders do: combine them again.

    Args:
        dataset: a known data set's name, or the path of a spec file.
        first: encoder-id, or its beginning, of the encoder whose text features stay.
        second: encoder-id, or its beginning, of the other one; its text features are not used.
        encoder_name: name of the new encoder.
        cache: None takes ``$UNIMOS_CACHE``, else the user's cache folder.
        force: replace other rows of an encoder of this name.
    Raises:
        InputError: unknown names, no common domain, other images or labels in the two, or a second encoder with text
            beside a first one without. Nothing is written then.
        StaleCacheError: damaged features.
        ExecutionError: a full disk.
    """
    spec, cache = load_spec(dataset), Path(cache or default_cache())
    check_encoder_name(encoder_name)
    folders = [find_encoder_by_name(cache, spec.cache_name, name) for name in (first, second)]
    stores = [_open_store(spec, folder, dataset, cache) for folder in folders]
    parts = [part for name in spec.domains for part in spec.parts(name)]
    common = [part for part in parts if all(index_path(folder / part).is_file() for folder in folders)]
    if not common:
        raise InputError(f"{folders[0].name} and {folders[1].name} have no domain of {spec.name} in common")
    texts = [_read_texts(folder, spec) for folder in folders]
    if texts[1] and not texts[0]:
        raise InputError(f"{folders[0].name} has no text features, {folders[1].name} has", todo="Name the latter first")
    loaded = {part: [store.domain(part) for store in stores] for part in common}
    origin = {"encoder": encoder_name, "combined": [folder.name for folder in folders]}
    domains = [_combine_domain(spec, part, *pair, encoder_name, origin) for part, pair in loaded.items()]
    dim = domains[0].features.shape[1]
    new_folder = cache / spec.cache_name / imported_id(encoder_name)
    check_writable_folder(new_folder.parent, "cache")
    for domain in domains:
        write_imported_domain(new_folder, domain, library_versions(), force=force)
    for text in texts[0]:
        write_imported_text(new_folder, *_pad_text(text, dim, encoder_name, origin))
    rows = {domain.part: len(domain.features) for domain in domains}
    return CombineResult(spec, new_folder, rows, dim, bool(texts[0]))


def _open_store(spec: DatasetSpec, folder: Path, dataset: str, cache: Path) -> FeatureStore:
    return FeatureStore(spec, folder, import_or_extract_call(folder.name, extract_call(dataset, cache=cache)))


def _read_texts(folder: Path, spec: DatasetSpec) -> list[TextShard]:
    """Return an encoder's sound text features of the classes of a data set, of all prompts."""
    texts = []
    for path in list_folder(folder / "text", "*.h5"):
        try:
            text = read_text_shard(path)
        except StaleCacheError:
            continue
        texts += [text] if text.header.class_names == spec.classes else []
    return texts


def _combine_domain(
    spec: DatasetSpec,
    part: str,
    first: DomainFeatures,
    second: DomainFeatures,
    encoder_name: str,
    origin: dict,
) -> ImportedDomain:
    """Return the combined rows of a domain or split, in the order of the first encoder's."""
    row_of_path = {path: row for row, path in enumerate(second.paths)}
    what = f"the two encoders' images of {part}"
    if different := sorted({*first.paths} ^ row_of_path.keys()):
        raise InputError(
            what, expected="the same paths", got=f"{len(different)} that only one has: {join_names(different, 3)}"
        )
    rows = np.array([row_of_path[path] for path in first.paths])
    changed = np.flatnonzero(first.labels != second.labels[rows])
    if len(changed):
        raise InputError(what, expected="the same labels", got=f"another for {first.paths[changed[0]]}")
    both = [_unit_rows(first.features), _unit_rows(second.features[rows])]
    features = (np.concatenate(both, 1) / sqrt(2)).astype(np.float16)
    return ImportedDomain(spec, part, encoder_name, features, first.paths, first.labels, origin)


def _unit_rows(features: np.ndarray) -> np.ndarray:
    """Return (n, D) stored features in float32, normalised again."""
    features = features.astype(np.float32)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def _pad_text(text: TextShard, dim: int, encoder_name: str, origin: dict) -> tuple[TextHeader, np.ndarray]:
    """Return the header and the (K, ``dim``) text features, which are zeros beyond those of the first encoder."""
    features, header = text.text_features, text.header
    padded = np.concatenate([features, np.zeros((len(features), dim - features.shape[1]), np.float32)], 1)
    new_header = TextHeader(
        **asdict(imported_identity(encoder_name)),
        class_names=header.class_names,
        prompts=header.prompts,
        dataset=header.dataset,
        word=header.word,
        templates=header.templates,
        versions=library_versions(),
        origin=origin,
        logit_scale=(header.logit_scale or CLIP_LOGIT_SCALE) * sqrt(2),
    )
    return new_header, padded
