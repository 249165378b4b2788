"""Read run folders. A file is used only if its digest matches."""

import csv
import errno
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from unimos_pipe.base.csv_escaping import unescape_name, unescape_path
from unimos_pipe.base.errors import Argument, InputError, ReadError, short_repr
from unimos_pipe.base.record_parsing import RecordError, parse_record
from unimos_pipe.base.renamed import RENAMED
from unimos_pipe.base.safe_open import MAX_ARRAY_BYTES, MAX_SETTINGS_BYTES, MAX_TEXT_BYTES, read_bytes
from unimos_pipe.data.manifest import UNKNOWN_CLASS
from unimos_pipe.runs.method_names import UNIMOS
from unimos_pipe.runs.run_values import EpochScores, RecordedSpec, RunConfig, RunMetrics, Scores
from unimos_pipe.runs.write_run import (
    BRANCH_COLUMNS,
    CONFIG,
    EPOCHS,
    FILES,
    HEADS,
    LABEL_COLUMN,
    PREDICTION_COLUMNS,
    PREDICTIONS,
    RESULT,
    SAMPLE,
    SCHEMA,
    compute_digest,
    compute_result_digest,
)

_LIMITS = {CONFIG: MAX_SETTINGS_BYTES, RESULT: MAX_SETTINGS_BYTES, EPOCHS: MAX_TEXT_BYTES, PREDICTIONS: MAX_TEXT_BYTES}
Values = TypeVar("Values")


class RunFolderError(InputError):
    """Error for a folder without a complete run; ``reason`` names the file and its fault."""

    def __init__(self, folder: Path, reason: str):
        super().__init__(
            f"{folder} holds no complete run: {reason}", todo=("Train it again with ", Argument("force", True))
        )
        self.reason = reason


@dataclass(frozen=True)
class FinishedRun:
    """A finished, verified run. Files other than config.json and result.json are read and verified on access.

    Accessors that read a file raise :class:`RunFolderError` if it has changed since :func:`read_run`.
    """

    folder: Path
    config: RunConfig
    result: RunMetrics
    files: Mapping[str, str] = field(default_factory=dict)  # digests of the other files

    @property
    def spec(self) -> RecordedSpec:
        """Spec of the run."""
        return self.config.spec

    @property
    def identity(self) -> str:
        """Identity of the run; runs made from equal options and shards have the same."""
        return self.config.identity

    @property
    def pair(self) -> str:
        """``source->target``."""
        return f"{self.spec.source}->{self.spec.target}"

    @property
    def label(self) -> str:
        """``full``, ``no-im``, ``fused`` or ``full,alpha=0.1``: the run without pair and seed."""
        return self.config.label

    @property
    def classes(self) -> tuple[str, ...]:
        """K class names in label order."""
        return self.config.classes

    def option(self, name: str) -> Any:
        """Return an option of UniMoS, or a setting of a method from outside, by its dotted name; None without one."""
        section, _, key = name.partition(".")
        if section == self.method:
            return self.spec.settings.get(key)
        table = self.spec.options.get(section, {})
        return table.get(key, dict(table.get("extra", ())).get(key))

    @property
    def method(self) -> str:
        """A name of :mod:`unimos_pipe.runs.method_names`."""
        return self.spec.method

    @property
    def labelled(self) -> tuple[int, int] | None:
        """Numbers of labelled and of scored rows if only some have a label, else None."""
        rows, labelled = self.result.scored_rows, self.result.labelled_rows
        partly = self.result.accuracy and labelled not in (None, rows)  # earlier runs had all labels or none
        return (labelled, rows) if partly else None

    def scores(self, which: str) -> Scores | EpochScores | None:
        """Return the scores of last or zero_shot, for UniMoS also oracle_best, vac or lac.

        None without target labels, or if the method has no such scores.
        """
        return self.result.accuracy and getattr(self.result.accuracy, which)

    def accuracy(self, which: str) -> float | None:
        """Return the overall accuracy of :meth:`scores` as a fraction, or None."""
        scores = self.scores(which)
        return scores and scores.accuracy

    def score(self, which: str) -> float | None:
        """Return the data set's published metric of :meth:`scores`; it may be the mean over classes."""
        scores = self.scores(which)
        return scores and getattr(scores, self.result.metric)

    def per_class(self, which: str) -> tuple[float | None, ...]:
        """Return the (K,) accuracies by class: last, zero_shot, vac or lac. Requires target labels."""
        return self.scores(which).per_class

    @cached_property
    def epochs(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; the first is the evaluation before training (epoch -1)."""
        try:
            return [json.loads(line) for line in self.read_verified(EPOCHS).decode().splitlines()]
        except (ValueError, RecursionError) as error:
            raise self._fault(EPOCHS, error) from None

    @cached_property
    def predictions(self) -> list[dict[str, str]]:
        """The rows of predictions.csv, in the target's order; ``label`` is empty without one."""
        try:
            rows = list(csv.DictReader(io.StringIO(self.read_verified(PREDICTIONS).decode(), newline="")))
        except (ValueError, csv.Error) as error:
            raise self._fault(PREDICTIONS, error) from None
        classes = set(self.classes)
        needed = (*PREDICTION_COLUMNS, *(BRANCH_COLUMNS if self.method == UNIMOS else ()))
        if not rows or any(name not in rows[0] for name in needed):
            raise self._fault(PREDICTIONS, f"expected the columns {', '.join(needed)}")
        columns = [name for name in ("class", "known_class", "vac", "lac", LABEL_COLUMN) if name in rows[0]]
        allowed = {"class": {UNKNOWN_CLASS}, LABEL_COLUMN: {UNKNOWN_CLASS, ""}}  # beside the classes
        for row in rows:
            row |= {name: unescape_name(row[name] or "") for name in columns}
            row["path"] = unescape_path(row["path"])
        cells = ((name, row[name]) for row in rows for name in columns)
        if any(value not in classes and value not in allowed.get(name, ()) for name, value in cells):
            raise self._fault(PREDICTIONS, f"a class that {CONFIG} does not name")
        return rows

    def tensors(self, *names: str) -> dict[str, np.ndarray]:
        """Return named arrays of sample.safetensors, features as float32; ``text`` (K, D) are the text features.

        The arrays are not cached: the samples of a large sweep would not fit into memory.
        """
        sources = {name: (HEADS, "text_features") if name == "text" else (SAMPLE, name) for name in names}
        files = {file: self.arrays(file) for file in {file for file, _ in sources.values()}}
        arrays = {}
        for name, (file, key) in sources.items():
            if key not in files[file]:
                raise self._fault(file, f"no array {key}")
            array = files[file][key]
            arrays[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
        return arrays

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """Return every array of heads.safetensors or sample.safetensors."""
        try:
            return load(self.read_verified(name))
        except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise self._fault(name, error) from None

    def read_verified(self, name: str) -> bytes:
        """Return the bytes of a file whose digest matches."""
        return _read_verified(self.folder, name, self.files)

    def _fault(self, name: str, error: object) -> RunFolderError:
        return RunFolderError(self.folder, f"{name} cannot be read ({' '.join(str(error).split())[:120]})")


def read_run(folder: Path) -> FinishedRun:
    """Read and verify a finished run: every file matches its digest, and the weights are finite.

    Raises:
        RunFolderError: with the file and its fault.
    """
    if not (folder / RESULT).is_file():
        raise RunFolderError(folder, f"unfinished, it has no {RESULT}")
    result = _parse_object(folder, RESULT, _read_file(folder, RESULT))
    if "digest" in result and result["digest"] != _digest(result):
        raise RunFolderError(folder, f"{RESULT} is not what was written")
    if result.get("schema") != SCHEMA:
        schema = short_repr(result.get("schema", 1))
        raise RunFolderError(folder, f"it is of schema {schema} and this version reads schema {SCHEMA}")
    files = result.get("files")
    if "digest" not in result or not isinstance(files, dict) or {*files, RESULT} != set(FILES):
        raise RunFolderError(folder, f"{RESULT} lacks digests")
    config_bytes = _read_verified(folder, CONFIG, files)
    config = _parse_values(RunConfig, folder, CONFIG, _upgrade_config(_parse_object(folder, CONFIG, config_bytes)))
    run = FinishedRun(folder, config, _parse_values(RunMetrics, folder, RESULT, result), files)
    if fault := _find_mismatch(run):
        raise RunFolderError(folder, fault)
    for name in (EPOCHS, PREDICTIONS, SAMPLE):
        run.read_verified(name)
    if not all(np.isfinite(array).all() for array in run.arrays(HEADS).values()):
        raise RunFolderError(folder, f"{HEADS} holds values that are not finite")
    return run


def _upgrade_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config in today's names: earlier runs named fields differently, the first ones had only UniMoS."""
    spec = config.get("spec")
    if not isinstance(spec, dict):
        return config
    if isinstance(spec.get("method"), dict):
        spec = {**spec, "method": UNIMOS, "options": spec["method"]}
    label_set = spec.get("label_set", spec.get("target_classes"))
    if isinstance(label_set, str):
        spec = {**spec, "label_set": RENAMED.get(label_set, label_set)}
    if isinstance(spec.get("method"), str):
        spec = {**spec, "method": RENAMED.get(spec["method"], spec["method"])}
    return {**config, "spec": spec}


def _read_verified(folder: Path, name: str, files: Mapping[str, str]) -> bytes:
    content = _read_file(folder, name)
    if (actual := compute_digest(content)) != files[name]:
        raise RunFolderError(folder, f"{name} is not what was written, xxh3 {actual}")
    return content


def _read_file(folder: Path, name: str) -> bytes:
    path = folder / name
    try:
        return read_bytes(path, _LIMITS.get(name, MAX_ARRAY_BYTES))
    except ReadError as error:
        if error.number == errno.EACCES or not error.lasting:
            raise
        raise RunFolderError(folder, f"{name} is missing" if error.absent else f"{name} is {error.reason}") from None


def _parse_object(folder: Path, name: str, content: bytes) -> dict[str, Any]:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RunFolderError(folder, f"{name} cannot be read ({' '.join(str(error).split())[:80]})") from None
    if not isinstance(values, dict):
        raise RunFolderError(folder, f"{name} is no JSON object")
    return values


def _digest(result: dict[str, Any]) -> str | None:
    try:
        return compute_result_digest(result)
    except (ValueError, RecursionError):  # a number or a nesting without end
        return None


def _parse_values(cls: type[Values], folder: Path, name: str, values: dict[str, Any]) -> Values:
    try:
        return parse_record(cls, values)
    except RecordError as error:
        raise RunFolderError(folder, f"{name}: {error}") from None


def _find_mismatch(run: FinishedRun) -> str | None:
    """Return what config.json and result.json disagree on, or None."""
    accuracy, estimate, classes = run.result.accuracy, run.result.estimate, len(run.classes)
    if not isinstance(run.config.encoder.get("model"), str):
        return f"{CONFIG}: encoder.model is missing"
    if run.result.metric not in ("accuracy", "per_class_mean"):
        return f"{RESULT}: metric: expected accuracy or per_class_mean, got {short_repr(run.result.metric)}"
    needed = ("oracle_best", "vac", "lac") if accuracy and run.method == UNIMOS else ()
    if missing := [name for name in needed if getattr(accuracy, name) is None]:
        return f"{RESULT}: accuracy.{missing[0]} is missing"
    measured = [scores for which in ("last", "zero_shot") if (scores := run.scores(which))]
    if any(len(scores.per_class) != classes for scores in measured):
        return f"the accuracies of {RESULT} do not fit the classes of {CONFIG}"
    if any(len(shares) not in (0, classes) for shares in (estimate.class_shares, estimate.source_shares)):
        return f"the shares of {RESULT} do not fit the classes of {CONFIG}"
    return None
