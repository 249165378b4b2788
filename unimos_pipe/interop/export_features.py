"""Export of cached features: arrays, CSVs of paths and classes, and a description of their origin."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from unimos_pipe.base.atomic_io import OwnedFolder, atomic_replace_dir, check_owned_folder, check_writable_folder
from unimos_pipe.base.locks import writer_lock
from unimos_pipe.base.safe_open import read_json
from unimos_pipe.cache.feature_set import FeatureSet, feature_set
from unimos_pipe.cache.store import DomainFeatures, FeatureStore, MissingTextError
from unimos_pipe.data.manifest import NO_LABEL
from unimos_pipe.data.row_lists import ManifestRow, csv_text

EXPORT_FILE, CLASSES_FILE = "export.json", "classes.txt"
KIND = "unimos-pipe features"


def _is_export(folder: Path) -> bool:
    try:
        return (folder / EXPORT_FILE).is_file() and read_json(folder / EXPORT_FILE)["kind"] == KIND
    except (ValueError, LookupError, TypeError, RecursionError):
        return False


EXPORT = OwnedFolder("exported features", (EXPORT_FILE, CLASSES_FILE, "*.npy", "*.csv", "*.safetensors"), _is_export)


@dataclass(frozen=True)
class ExportResult:
    """Result of an export: the folder, and the number of rows of each domain or split."""

    folder: Path
    rows: dict[str, int]
    without_text: tuple[str, ...]  # domains or splits whose prompts are not in the cache


def export_features(features: str | FeatureSet, to: str | Path, domains: Sequence[str] = ()) -> ExportResult:
    """Write cached features to a folder and replace an earlier export.

    Files of a domain: ``<domain>.npy``, (n, D) float16 as stored; ``<domain>.csv``, path and class in row order;
    ``<domain>.text.npy``, (K, D) float32 of its prompts; and ``<domain>.safetensors`` with ``features``, ``labels``
    (-1 = none) and ``text``. ``classes.txt`` has the class names in label order, ``export.json`` the origin.

    Args:
        features: a data set's name or spec file, or the result of :func:`unimos_pipe.cache.feature_set.feature_set`.
        domains: names of domains; empty exports all.
    Raises:
        InputError, StaleCacheError: features that are missing or damaged, or a folder with other files.
    """
    features = feature_set(features) if isinstance(features, str) else features
    store, to = features.store(), Path(to)
    spec = store.spec
    parts = [part for name in domains or spec.domains for part in spec.parts(name)]
    domain_features = {part: store.domain(part) for part in dict.fromkeys(parts)}
    texts = {part: _read_text_features(store, features, rows) for part, rows in domain_features.items()}
    check_writable_folder(to.absolute().parent, "out")
    with writer_lock(to):
        check_owned_folder(to, EXPORT, "out")
        with atomic_replace_dir(to) as folder:
            for part, rows in domain_features.items():
                _write_part(folder, part, rows, texts[part], spec.classes)
            (folder / CLASSES_FILE).write_text("".join(f"{name}\n" for name in spec.classes), encoding="utf-8")
            encoder = asdict(next(iter(domain_features.values())).encoder)
            about = {"kind": KIND, "dataset": spec.name, "encoder_id": store.folder.name, "encoder": encoder}
            about |= {
                "templates": features.templates,
                "rows": {part: len(rows.paths) for part, rows in domain_features.items()},
            }
            text = json.dumps(about, indent=1, ensure_ascii=False) + "\n"
            (folder / EXPORT_FILE).write_text(text, encoding="utf-8", errors="surrogatepass")
    return ExportResult(to, about["rows"], tuple(part for part, text in texts.items() if text is None))


def _read_text_features(
    store: FeatureStore, features: FeatureSet, domain_features: DomainFeatures
) -> np.ndarray | None:
    """Return the (K, D) text features of a domain, or None if they are not cached."""
    try:
        return store.text(domain_features.name, features.templates, domain_features.encoder)[0]
    except MissingTextError:
        return None


def _write_part(
    folder: Path, part: str, domain_features: DomainFeatures, text: np.ndarray | None, classes: Sequence[str]
) -> None:
    names = ["" if label == NO_LABEL else classes[label] for label in domain_features.labels.tolist()]
    rows = [ManifestRow(path, name) for path, name in zip(domain_features.paths, names, strict=True)]
    (folder / f"{part}.csv").write_text(csv_text(rows), encoding="utf-8", newline="")
    np.save(folder / f"{part}.npy", domain_features.features)
    tensors = {"features": domain_features.features, "labels": domain_features.labels}
    if text is not None:
        np.save(folder / f"{part}.text.npy", text)
        tensors["text"] = text
    content = save({name: np.ascontiguousarray(array) for name, array in tensors.items()})
    (folder / f"{part}.safetensors").write_bytes(content)
