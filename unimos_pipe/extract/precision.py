"""Resolution of encoder precision ``auto`` from cached features. Imports no torch."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from unimos_pipe.base.atomic_io import write_text
from unimos_pipe.base.errors import Argument, InputError, join_names
from unimos_pipe.base.locks import writer_lock
from unimos_pipe.base.method_config import EncoderSpec
from unimos_pipe.cache.cache_paths import ENCODER_FOLDER, encoder_folders
from unimos_pipe.cache.feature_set import FeatureSet

if TYPE_CHECKING:
    from unimos_pipe.extract.encoder import PrecisionCheck

PRECISION_FILE = "precision.json"  # in the encoder's folder: the comparison that decided ``auto``


def resolve_precision(features: FeatureSet) -> EncoderSpec:
    """Return the encoder's spec, with precision ``auto`` replaced if no comparison is needed.

    Cached features of the data set and model determine the precision; embedded weights use fp32, for which their
    accuracies are documented.

    Raises:
        InputError: cached features have several precisions.
    """
    spec = features.encoder
    if spec.precision != "auto":
        return spec
    folders = [
        path for path in encoder_folders(features.cache, features.dataset.cache_name, spec) if _has_features(path)
    ]
    precisions = sorted({ENCODER_FOLDER.fullmatch(path.name)[1] for path in folders})
    if len(precisions) > 1:
        raise InputError(
            (
                f"{features.dataset.name} was encoded in several precisions: "
                f"{join_names(path.name for path in folders)}; choose one with ",
                Argument("precision"),
                f" {' or '.join(precisions)}",
            )
        )
    if not precisions and spec.pretrained == "embedded":
        precisions = ["fp32"]
    return replace(spec, precision=precisions[0]) if precisions else spec


def _has_features(folder: Path) -> bool:
    """Return whether an encoder's folder holds features or a precision decision."""
    return (folder / PRECISION_FILE).is_file() or next(folder.glob("*/*.h5"), None) is not None


def save_precision_check(folder: Path, precision_check: "PrecisionCheck") -> None:
    """Store the decision of ``auto`` in an encoder's folder. Raises ExecutionError on a full disk."""
    path = folder / PRECISION_FILE
    with writer_lock(path, wait=True):
        write_text(path, json.dumps(asdict(precision_check), indent=1) + "\n")
