"""Write run folders: inputs, per-epoch metrics, predictions and weights.

The folder is written under a temporary name and renamed into place. ``result.json`` is written last and holds the xxh3
digest of every other file and, as ``digest``, its own: that of its JSON with sorted keys, without blanks and without
that field. No other file holds times, so equal runs give equal bytes. :mod:`unimos_pipe.runs.read_run` reads and
verifies.
"""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from safetensors.numpy import save

from unimos_pipe.base.atomic_io import atomic_replace_dir, atomic_write
from unimos_pipe.base.csv_escaping import escape_name, escape_path
from unimos_pipe.base.errors import PATH_FAULTS, Argument, InputError, ReadError
from unimos_pipe.base.record_parsing import to_plain
from unimos_pipe.base.safe_open import MAX_SETTINGS_BYTES, read_bytes
from unimos_pipe.runs.run_values import RunConfig, RunMetrics

KIND, SCHEMA = "unimos-pipe run", 2  # the marker of config.json and result.json; schema 1 had none
CONFIG, EPOCHS, PREDICTIONS = "config.json", "metrics.jsonl", "predictions.csv"
HEADS, SAMPLE, RESULT = "heads.safetensors", "sample.safetensors", "result.json"
FILES = (CONFIG, EPOCHS, PREDICTIONS, HEADS, SAMPLE, RESULT)
PREDICTION_COLUMNS = ("path", "class", "probability")
RAW_COLUMN = "raw_probability"  # before calibration; only runs with a temperature
BRANCH_COLUMNS = ("vac", "vac_probability", "lac", "lac_probability")  # of UniMoS
UNKNOWN_COLUMNS = ("unknown_score", "known_class")  # where rows of no class, UNKNOWN_CLASS, were looked for
LABEL_COLUMN = "label"  # last column, if the target has labels; empty in a row without


@dataclass(frozen=True)
class RunContents:
    """Contents of a run folder. ``predictions`` are columns by name, of equal length."""

    config: RunConfig
    epochs: Sequence[Mapping[str, Any]]
    predictions: Mapping[str, Sequence[str]]
    heads: Mapping[str, np.ndarray]
    sample: Mapping[str, np.ndarray]
    result: RunMetrics


def write_run(folder: Path, contents: RunContents) -> None:
    """Write a run folder, replacing an existing run atomically.

    Call :func:`check_run_folder` first: the replaced folder is not checked here.
    """
    mark = {"kind": KIND, "schema": SCHEMA}
    files = {
        CONFIG: encode_json({**mark, **to_plain(contents.config)}),
        EPOCHS: "".join(json.dumps(line) + "\n" for line in contents.epochs).encode(),
        PREDICTIONS: format_predictions(contents.predictions).encode(),
        HEADS: save({name: np.ascontiguousarray(array) for name, array in contents.heads.items()}),
        SAMPLE: save({name: np.ascontiguousarray(array) for name, array in contents.sample.items()}),
    }
    result = {
        **mark,
        **to_plain(contents.result),
        "files": {name: compute_digest(content) for name, content in files.items()},
    }
    result["digest"] = compute_result_digest(result)
    with atomic_replace_dir(folder) as part:
        for name, content in {**files, RESULT: encode_json(result)}.items():
            with atomic_write(part / name) as file:
                file.write_bytes(content)


def encode_json(values: Mapping[str, Any]) -> bytes:
    """Return values as the bytes of a run's JSON file."""
    return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")


def format_predictions(columns: Mapping[str, Sequence[str]]) -> str:
    """Return the text of ``predictions.csv``; cells are escaped so that spreadsheets do not run them as formulas."""
    escapes = {"path": escape_path, **dict.fromkeys(("class", "known_class", "vac", "lac", LABEL_COLUMN), escape_name)}
    escaped = [map(escapes.get(name, str), values) for name, values in columns.items()]
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows(zip(*escaped, strict=True))
    return file.getvalue()


def compute_digest(content: bytes) -> str:
    """Return the xxh3 digest of a file's bytes, 32 hex digits."""
    return xxhash.xxh3_128(content).hexdigest()


def compute_result_digest(result: Mapping[str, Any]) -> str:
    """Return the digest that ``result.json`` holds of itself."""
    plain = {name: value for name, value in result.items() if name != "digest"}
    return compute_digest(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode())


_CHOOSE = ("choose another ", Argument("out"), " or ", Argument("runs"))  # a folder


def check_run_folder(folder: Path, *, force: bool) -> None:
    """Check that a run may be written to a folder, without changing anything.

    Raises:
        InputError: the folder is not writable, holds anything that is not a run, or, without ``force``, holds a
            finished run.
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except FileNotFoundError:
        names = []
    except OSError as error:
        fault = InputError((f"cannot write to {folder}: {error.strerror}; ", *_CHOOSE))
        raise (fault if error.errno in PATH_FAULTS else ReadError.of(folder, error)) from None
    if folder.is_symlink():
        raise InputError((f"{folder} is a link; ", *_CHOOSE))
    if names and not _holds_only_run_files(folder, names):
        foreign = [name for name in names if name not in FILES or (folder / name).is_symlink()]
        reason = f"{foreign[0]} is not a run's file" if foreign else f"no {CONFIG} that a run wrote"
        raise InputError((f"{folder} is not empty and not a run folder ({reason}); ", *_CHOOSE))
    parent = next(path for path in folder.absolute().parents if path.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError((f"cannot write to {parent}: Permission denied; ", *_CHOOSE))
    if RESULT in names and not force:
        raise InputError(
            (f"{folder} holds a finished run; add ", Argument("force", True), " to train it again, or ", *_CHOOSE)
        )


def _holds_only_run_files(folder: Path, names: Sequence[str]) -> bool:
    """Return whether a folder holds only a run's files, in any state, and one of them has the run marker.

    One marker is enough, so that a run with a missing file can be trained again. Empty files are accepted, too.
    """
    paths = [folder / name for name in names]
    if not {*names} <= {*FILES} or any(path.is_symlink() or not path.is_file() for path in paths):
        return False
    marks = [_has_run_marker(read_bytes(path, MAX_SETTINGS_BYTES)) for path in paths if path.name in (CONFIG, RESULT)]
    return any(marks) or not any(path.stat().st_size for path in paths)


def _has_run_marker(content: bytes) -> bool:
    """Return whether a JSON file begins as a run's; for schema 1, whether it has a run's keys."""
    if content.removeprefix(b"{").lstrip().startswith(f'"kind": "{KIND}"'.encode()):
        return True
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(values, dict) and {"identity", "spec", "shards"} <= values.keys()
