"""Adapt feature arrays of any encoder, without images, cache or data set.

    python pipelines/from_arrays.py features.npz answers.csv

features.npz holds source (n, D), labels (n,), target (m, D), text (K, D) and classes (K,): image features of both
domains, a class name for each source row, and the prompts' features in the order of classes. answers.csv gets, for each
target row, the class of UniMoS and of three closed-form methods.
"""

import csv
import sys

import numpy as np
import torch

import unimos_pipe
from unimos_pipe.methods.registry import METHODS

CLOSED_FORM = ("zero-shot", "fused", "linear-im")


def predict(arrays: dict[str, np.ndarray], settings: dict | None = None) -> dict[str, np.ndarray]:
    """Return method -> (m,) class names."""
    source, labels, target, text, classes = (arrays[name] for name in ("source", "labels", "target", "text", "classes"))
    order = np.argsort(classes)  # the classifier's classes are sorted
    domains = np.repeat([1, -1], [len(source), len(target)])  # positive: source, negative: target
    unknown = np.full(len(target), classes[0])  # placeholder: the target's labels are ignored
    unimos = unimos_pipe.UniMoSClassifier(text[order], settings=settings)
    unimos.fit(np.concatenate([source, target]), np.concatenate([labels, unknown]), domains)
    task = unimos_pipe.task_from_arrays((source, labels), target, text, list(classes), dtype=torch.float64)
    closed_form = {name: classes[METHODS[name].fit(task).logits.argmax(-1).numpy()] for name in CLOSED_FORM}
    return {"unimos": unimos.predict(target), **closed_form}


def main(features: str, out: str) -> None:
    """Read the arrays and write a row for each target row."""
    with np.load(features, allow_pickle=False) as arrays:
        predictions = predict(dict(arrays))
    with open(out, "w", newline="", encoding="utf-8") as file:  # noqa: PTH123
        writer = csv.writer(file)
        writer.writerow(["row", *predictions])
        writer.writerows(zip(range(len(predictions["unimos"])), *predictions.values(), strict=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
