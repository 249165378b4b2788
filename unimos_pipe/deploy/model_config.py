"""Config of an exported model: ``config.json``, its digest, and validation of its values."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor

from unimos_pipe.base.errors import Argument, InputError, join_names, short_repr
from unimos_pipe.base.safe_open import MAX_ARRAY_BYTES, read_bytes, read_json
from unimos_pipe.cache.encoder_identity import IMPORTED, EncoderIdentity
from unimos_pipe.evaluation.calibration import ENDS
from unimos_pipe.runs.method_names import UNIMOS, answers_new_rows, method_names
from unimos_pipe.runs.read_run import FinishedRun
from unimos_pipe.runs.run_values import Accuracies

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT = 3
CONFIG_KEYS = (
    "format",
    "classes",
    "encoder",
    "encoder_id",
    "method",
    "options",
    "temperature",
    "about",
)  # of config.json
WHERE = "the model's config.json"
_ENCODER_VALUES = ("precision", {"fp32", "fp16", "bf16", IMPORTED}), ("activation", {"GELU", "QuickGELU", ""})


def export_digest(config: Mapping[str, Any], tensors: bytes) -> str:
    """Return the xxh3 digest of ``config.json`` without its digest and of the bytes of ``model.safetensors``."""
    plain = {name: value for name, value in config.items() if name != "digest"}
    digest = xxhash.xxh3_128(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode())
    digest.update(tensors)
    return digest.hexdigest()


def read_export(config_file: Path, weights: Path, *, allow_edited: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the config and the tensors of an export; verify their digest unless ``allow_edited``.

    Raises:
        InputError: files that were changed after the export, or are not an export's.
        ReadError: files that cannot be read.
    """
    config, content = read_config(config_file), read_bytes(weights, MAX_ARRAY_BYTES)
    if not allow_edited and config.get("digest") != export_digest(config, content):
        has_digest = "digest" in config
        reason = "was edited or damaged" if has_digest else "was made by an earlier version, without a digest"
        raise InputError(
            f"{config_file.parent} {reason}: {CONFIG} and {WEIGHTS} cannot be verified",
            todo=("Export the run again; ", Argument("allow_edited", True), " loads it unverified"),
        )
    try:
        return config, load_tensors(content)
    except SafetensorError as error:
        raise InputError(f"{weights} cannot be read: {' '.join(str(error).split())}") from None


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises InputError, or ReadError if the system cannot read the file."""
    try:
        value = read_json(path)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}", expected="a JSON object", got=type(value).__name__)
    return value


def run_model_config(run: FinishedRun) -> dict[str, Any]:
    """Return the config of a model from a finished run."""
    spec, result, accuracy = run.spec, run.result, run.result.accuracy
    about = {name: getattr(spec, name) for name in ("dataset", "source", "target", "variant", "seed")}
    rows = {"source": result.source_rows, "target": result.target_rows}
    if run.labelled:
        rows |= dict(zip(("labelled", "scored"), run.labelled, strict=True))
    return {
        "format": FORMAT,
        "classes": list(run.classes),
        "encoder": run.config.encoder,
        "encoder_id": spec.encoder_id,
        "method": spec.method,
        "options": spec.options,
        "temperature": result.calibration and result.calibration.temperature,
        "about": {
            **about,
            "templates": list(spec.templates),
            "accuracy": accuracy and _exported_accuracy(accuracy),
            "rows": rows,
            "calibration_basis": result.calibration and result.calibration.basis,
            **({"unknown_share": result.unknown.share} if result.unknown else {}),
        },
    }


def _exported_accuracy(accuracy: Accuracies) -> dict[str, float]:
    zero_shot = {} if accuracy.zero_shot is None else {"zero_shot": accuracy.zero_shot.accuracy}
    return {"last": accuracy.last.accuracy, **zero_shot}


def check_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the validated config of a model. UniMoS's options are not validated here.

    Raises:
        InputError: a missing or invalid value.
    """
    if config.get("format") == 1 and "method" in config:  # format 1 knew UniMoS only, without calibration
        config = {**config, "format": FORMAT, "method": UNIMOS, "options": config["method"], "temperature": None}
    elif config.get("format") == 2:  # without a digest
        config = {**config, "format": FORMAT}
    missing = [key for key in CONFIG_KEYS if key not in config]
    if missing or config["format"] != FORMAT:
        got = f"no {', '.join(missing)}" if missing else f"format {short_repr(config['format'])}"
        raise InputError(WHERE, expected=f"format {FORMAT} with {', '.join(CONFIG_KEYS)}", got=got)
    _check_classes(config["classes"])
    _check_encoder(config["encoder"], config["encoder_id"])
    method = config["method"]
    if not isinstance(method, str) or method not in method_names() or not answers_new_rows(method):
        supported = [name for name in method_names() if answers_new_rows(name)]
        method = short_repr(config["method"])
        raise InputError(f"{WHERE}: method", expected=f"one of {', '.join(supported)}", got=method)
    if not isinstance(config["options"], Mapping):
        raise InputError(f"{WHERE}: options", expected="a table", got=short_repr(config["options"]))
    temperature = config["temperature"]
    if temperature is not None and not (isinstance(temperature, float) and ENDS[0] <= temperature <= ENDS[1]):
        raise InputError(
            f"{WHERE}: temperature", expected=f"a number from {ENDS[0]} to {ENDS[1]}", got=short_repr(temperature)
        )
    _check_about(config["about"])
    return {key: config[key] for key in CONFIG_KEYS}


def _check_classes(classes: Any) -> None:
    if not isinstance(classes, list) or len(classes) < 2 or not all(isinstance(name, str) for name in classes):
        raise InputError(f"{WHERE}: classes", expected="two or more names")
    if repeated := [name for name, count in Counter(classes).items() if count > 1 or not name.strip()]:
        raise InputError(f"{WHERE}: classes", expected="distinct names", got=join_names(map(short_repr, repeated), 4))


def _check_encoder(encoder: Any, encoder_id: Any) -> None:
    fields = set(EncoderIdentity.__dataclass_fields__)
    if not isinstance(encoder, Mapping) or set(encoder) != fields:
        raise InputError(f"{WHERE}: encoder", expected=f"the fields {', '.join(sorted(fields))}")
    if not all(isinstance(value, str) for value in (*encoder.values(), encoder_id)):
        raise InputError(f"{WHERE}: encoder and encoder_id", expected="strings")
    for name, allowed in _ENCODER_VALUES:
        if encoder[name] not in allowed:
            raise InputError(
                f"{WHERE}: encoder.{name}", expected=f"one of {join_names(sorted(allowed))}", got=encoder[name]
            )
    if encoder["precision"] != IMPORTED:
        sha256 = encoder["weights_sha256"]
        if len(sha256) != 64 or not {*sha256} <= {*"0123456789abcdef"}:
            raise InputError(
                f"{WHERE}: encoder.weights_sha256", expected="64 hexadecimal digits", got=short_repr(sha256)
            )


def _check_about(about: Any) -> None:
    """Validate the description of a model for cards and services."""
    texts = ("dataset", "source", "target")
    if not isinstance(about, Mapping) or not all(isinstance(about.get(name), str) for name in texts):
        raise InputError(f"{WHERE}: about", expected=f"a table with the strings {join_names(texts)}")
    accuracy = about.get("accuracy") or {}
    values = accuracy.values() if isinstance(accuracy, Mapping) else [accuracy]
    if not all(isinstance(value, float | int) and 0 <= value <= 1 for value in values):  # false for NaN
        raise InputError(f"{WHERE}: about.accuracy", expected="fractions from 0 to 1", got=short_repr(accuracy))
    rows = about.get("rows") or {}
    if not isinstance(rows, Mapping) or not all(type(count) is int and count >= 0 for count in rows.values()):
        raise InputError(f"{WHERE}: about.rows", expected="counts", got=short_repr(rows))
