"""Run folders written by hand, with figures that tests know beforehand. No training, no torch."""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from unimos_pipe.base.config import MethodSpec

CLASSES = ("circle", "square", "bar")
ENCODER_ID = "tinyclip-r24-64_embedded_fp32-00000000"
DIM, WIDTH = 16, 12


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
) -> Path:
    """Write one finished run below ``root`` and return its folder.

    ``rows`` are (path, ensemble, p, vac, p, lac, p, label); by default 12 that are all right.
    """
    source, target = pair.split("->")
    label = ",".join([variant, *(f"{name.rpartition('.')[2]}={value}" for name, value in (changed or {}).items())])
    folder = root / dataset / encoder_id / f"{source}-{target}" / label / f"seed{seed}"
    folder.mkdir(parents=True)
    if rows is None:
        names = [classes[i % len(classes)] for i in range(12)]
        rows = [(f"{name}/{i}.png", name, 0.9, name, 0.8, name, 0.7, name) for i, name in enumerate(names)]
    method = asdict(MethodSpec())
    config = {
        "spec": {
            "dataset": dataset,
            "encoder_id": encoder_id,
            "source": source,
            "target": target,
            "variant": variant,
            "seed": seed,
            "templates": ["a {domain} photo of a {class}."],
            "method": method,
            "changed": changed or {},
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
        "vac": one(last - 0.1),
        "lac": one(last - 0.05),
        "zero_shot": one(zero_shot),
        "oracle_best": {"accuracy": oracle, "epoch": 1},
    }
    picked = {"im": {"epoch": 1, "accuracy": last + 0.02 if labelled else None}}
    result = {
        "protocol": "transductive",
        "source_rows": 12,
        "target_rows": len(rows),
        "classes": len(classes),
        "accuracy": accuracy if labelled else None,
        "selected": picked,
        "seconds": 2.5,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    _write_epochs(folder, last, labelled, epochs)
    _write_predictions(folder, rows, labelled)
    _write_tensors(folder, len(classes), len(rows), seed)
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return folder


def _write_epochs(folder: Path, last: float, labelled: bool, epochs: int) -> None:
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
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _write_predictions(folder: Path, rows: Sequence[tuple], labelled: bool) -> None:
    head = ["path", "class", "probability", "vac", "vac_probability", "lac", "lac_probability", "label"]
    with (folder / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head if labelled else head[:-1])
        writer.writerows(row if labelled else row[:-1] for row in rows)


def _write_tensors(folder: Path, classes: int, target_rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sample = {"source_labels": np.arange(12) % classes}
    for side, count in (("source", 12), ("target", target_rows)):
        sample[f"{side}_rows"] = np.arange(count)
        for kind, width in (("image", DIM), ("vac", DIM), ("lac", DIM), ("bottleneck_before", WIDTH)):
            sample[f"{side}_{kind}"] = rng.normal(size=(count, width)).astype(np.float16)
        sample[f"{side}_bottleneck_after"] = sample[f"{side}_bottleneck_before"]
    save_file(sample, folder / "sample.safetensors")
    text = rng.normal(size=(classes, DIM)).astype(np.float32)
    save_file({"text_features": text}, folder / "heads.safetensors")
