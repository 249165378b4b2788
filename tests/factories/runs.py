"""Run folders written by hand, with figures that tests know beforehand. No training, no torch."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from unimos_pipe.base.method_config import DEFAULT_TEMPLATE, method_spec
from unimos_pipe.base.record_parsing import parse_record
from unimos_pipe.runs.method_names import UNIMOS
from unimos_pipe.runs.run_spec import RunSpec
from unimos_pipe.runs.run_values import RunConfig, RunMetrics
from unimos_pipe.runs.write_run import (
    BRANCH_COLUMNS,
    FILES,
    LABEL_COLUMN,
    PREDICTION_COLUMNS,
    RESULT,
    RunContents,
    compute_digest,
    compute_result_digest,
    encode_json,
)
from unimos_pipe.runs.write_run import write_run as write

CLASSES = ("circle", "square", "bar")
ENCODER_ID = "tinyclip-r24-64_embedded_fp32-00000000"
DIM, WIDTH = 16, 12
SMALL_SWEEP = """
name = "small"
dataset = "icons"
pairs = ["line->color", "color->line"]
seeds = 2
variants = ["full", "no-im"]
[options.train]
epochs = 4
"""
COLUMNS = (*PREDICTION_COLUMNS, *BRANCH_COLUMNS, LABEL_COLUMN)


def run_spec(**fields: Any) -> RunSpec:
    """Return the spec of a run of icons; ``fields`` replace its own."""
    given = {"dataset": "icons", "encoder_id": "e", "source": "line", "target": "color", "variant": "full", "seed": 0}
    given |= {"templates": (DEFAULT_TEMPLATE,), "options": method_spec()}
    return RunSpec(**given | fields)


def write_run(
    root: Path,
    pair: str = "dark->light",
    *,
    seed: int = 0,
    variant: str = "full",
    changed: dict[str, Any] | None = None,
    last: float = 0.7,
    zero_shot: float = 0.6,
    oracle: float = 0.8,
    classes: Sequence[str] = CLASSES,
    dataset: str = "mini",
    encoder_id: str = ENCODER_ID,
    model: str = "tinyclip-r24-64",
    rows: Sequence[tuple] | None = None,
    labelled: bool = True,
    epochs: int = 3,
    method: str = UNIMOS,
    more: dict[str, Any] | None = None,
) -> Path:
    """Write one finished run below ``root`` and return its folder; ``more`` joins its result.json.

    ``rows`` are (path, ensemble, p, vac, p, lac, p, label); by default 12 that are all right.
    """
    source, target = pair.split("->")
    tuned = method == UNIMOS
    variant = variant if tuned else ""
    label = ",".join(
        [variant or method, *(f"{name.rpartition('.')[2]}={value}" for name, value in (changed or {}).items())]
    )
    folder = root / dataset / encoder_id / f"{source}-{target}" / label / f"seed{seed}"
    if rows is None:
        names = [classes[i % len(classes)] for i in range(12)]
        rows = [(f"{name}/{i}.png", name, 0.9, name, 0.8, name, 0.7, name) for i, name in enumerate(names)]
    options = asdict(method_spec(variant or "full", changed))
    config = {
        "identity": f"{pair} {label} {seed}",
        "spec": {
            "dataset": dataset,
            "encoder_id": encoder_id,
            "source": source,
            "target": target,
            "variant": variant,
            "seed": seed,
            "templates": ["a {domain} photo of a {class}."],
            "method": method,
            "options": options,
            "changed": changed or {},
            "protocol": "transductive",
        },
        "label": label,
        "classes": list(classes),
        "encoder": {
            "weights_sha256": "ab" * 32,
            "model": model,
            "activation": "GELU",
            "preprocessing": "{}",
            "precision": "fp32",
        },
        "shards": {source: ["11" * 16], target: ["22" * 16], "text": ["33" * 16]},
        "environment": {"unimos-pipe": "0.1.0", "torch": "2.9", "python": "3.11", "device": "cpu", "hardware": "x"},
    }
    one = lambda value: {"accuracy": value, "per_class_mean": value, "per_class": [value] * len(classes)}  # noqa: E731
    accuracy = {
        "last": one(last),
        "zero_shot": one(zero_shot),
    }
    if tuned:
        accuracy |= {
            "vac": one(last - 0.1),
            "lac": one(last - 0.05),
            "oracle_best": {"accuracy": oracle, "per_class_mean": oracle, "epoch": 1},
        }
    picked = {"im": {"epoch": 1, "accuracy": last + 0.02 if labelled else None}}
    result = {
        "protocol": "transductive",
        "metric": "accuracy",
        "source_rows": 12,
        "target_rows": len(rows),
        "classes": len(classes),
        "accuracy": accuracy if labelled else None,
        "selected": picked if tuned else {},
        "seconds": 2.5,
    }
    sample, heads = _arrays(len(classes), len(rows), seed)
    columns = dict(zip(COLUMNS, zip(*([str(value) for value in row] for row in rows), strict=True), strict=True))
    left_out = {*(() if tuned else BRANCH_COLUMNS), *(() if labelled else [LABEL_COLUMN])}
    columns = {name: values for name, values in columns.items() if name not in left_out}
    lines = _lines(last, labelled, epochs)
    if not tuned:
        lines = [{"epoch": 0, "losses": {}, "accuracy": {"ensemble": last}, "per_class_mean": {"ensemble": last}}]
        sample = {name: sample[name] for name in sample if name.endswith(("rows", "image", "labels"))}
    write(
        folder,
        RunContents(parse_record(RunConfig, config), lines, columns, heads, sample, parse_record(RunMetrics, result)),
    )
    if more:
        forge_json(folder, RESULT, lambda values: values.update(more))
    return folder


def forge(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a file of a run and sign the folder again, as someone would who knows how it is verified.

    A changed ``result.json`` keeps its own digests of the other files.
    """
    path = folder / name
    path.write_bytes(change(path.read_bytes()))
    result = json.loads((folder / RESULT).read_bytes())
    if name != RESULT:
        result["files"] = {file: compute_digest((folder / file).read_bytes()) for file in FILES if file != RESULT}
    result["digest"] = compute_result_digest(result)
    (folder / RESULT).write_bytes(encode_json(result))


def forge_json(folder: Path, name: str, change: Callable[[dict], object]) -> None:
    """As :func:`forge`; ``change`` works on the values of a JSON file in place."""

    def changed(content: bytes) -> bytes:
        values = json.loads(content)
        change(values)
        return encode_json(values)

    forge(folder, name, changed)


def _lines(last: float, labelled: bool, epochs: int) -> list[dict[str, Any]]:
    terms = ("lac", "vac", "im", "ortho", "bce_source", "bce_target")
    lines = []
    for epoch in range(-1, epochs):
        value = last if labelled else None
        lines.append(
            {
                "epoch": epoch,
                "losses": {} if epoch < 0 else dict.fromkeys(terms, 1.0 / (epoch + 1)),
                "train_weight": None if epoch < 0 else 0.5,
                "inference_weight": 0.8,
                "accuracy": {"ensemble": value, "vac": value, "lac": value},
                "per_class_mean": {"ensemble": value, "vac": value, "lac": value},
            }
        )
    return lines


def _arrays(classes: int, target_rows: int, seed: int) -> tuple[dict, dict]:
    """The arrays of sample.safetensors and heads.safetensors."""
    rng = np.random.default_rng(seed)
    sample = {"source_labels": np.arange(12) % classes}
    for side, count in (("source", 12), ("target", target_rows)):
        sample[f"{side}_rows"] = np.arange(count)
        for kind, width in (("image", DIM), ("vac", DIM), ("lac", DIM), ("bottleneck_before", WIDTH)):
            sample[f"{side}_{kind}"] = rng.normal(size=(count, width)).astype(np.float16)
        sample[f"{side}_bottleneck_after"] = sample[f"{side}_bottleneck_before"]
    return sample, {"text_features": rng.normal(size=(classes, DIM)).astype(np.float32)}
