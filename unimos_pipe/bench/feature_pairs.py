"""Labelled pairs of domains from files of features, and their variants: partial, long-tailed, few rows a class."""

import itertools
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

from unimos_pipe.base.errors import InputError, join_names, suggestions
from unimos_pipe.methods.task import AdaptationTask, LabelledFeatures, UnlabelledFeatures, unit_rows

CLOSED, PARTIAL, LONG_TAILED = "closed", "partial", "long-tailed"
FEW = {f"few-{side}-{count}": (side, count) for side in ("source", "target") for count in (2, 5, 10)}
VARIANTS = (CLOSED, PARTIAL, LONG_TAILED, *FEW)
FORMS = "an .npz of x, y, d, mu and classes, or of classes, text, NAME and NAME_labels; or a folder of cache export"
KEEP_EVERY = 3  # of the classes, in partial targets


@dataclass(frozen=True)
class LabelledRows:
    """(n, D) features and (n,) int64 labels of a domain, and (K, D) features of its prompts."""

    features: np.ndarray
    labels: np.ndarray
    text: np.ndarray


@dataclass(frozen=True)
class LabelledPair:
    """A pair of domains with the target's labels, which only scoring sees."""

    dataset: str
    variant: str
    name: str
    source: LabelledRows
    target: LabelledRows

    def task(self, dtype: torch.dtype = torch.float32) -> AdaptationTask:
        """The task that methods see."""
        features = [
            unit_rows(torch.from_numpy(rows.astype(np.float32)), dtype, torch.device("cpu"))
            for rows in (self.source.features, self.target.features, self.target.text)
        ]
        name = f"{self.dataset}, {self.name}, {self.variant}"
        return AdaptationTask(
            LabelledFeatures(features[0], torch.from_numpy(self.source.labels), f"source of {name}"),
            UnlabelledFeatures(features[1], f"target of {name}"),
            features[2],
        )


def read_pairs(path: Path, names: Sequence[str] = ()) -> list[LabelledPair]:
    """The pairs of domains of a file or folder, by all ordered pairs or those that ``names`` gives, ``SRC->TGT``.

    Raises:
        InputError: a file that cannot be read, or of another form.
    """
    domains = _read_folder(path) if path.is_dir() else _read_npz(path)
    pairs = [
        LabelledPair(path.stem, CLOSED, f"{source}->{target}", domains[source], domains[target])
        for source, target in itertools.permutations(domains, 2)
    ]
    chosen = [pair for pair in pairs if pair.name in names]
    return chosen or pairs


def make_variant(pair: LabelledPair, variant: str) -> LabelledPair | None:
    """Return a variant of a closed-set pair, sampled with a seed from its name; None if it equals the pair.

    ``partial``: every third class in the target. ``long-tailed``: target rows by 1 / rank of the class, in a random
    order of classes, at least one. ``few-source-N`` and ``few-target-N``: at most N rows per class on that side.
    """
    if variant not in VARIANTS:
        raise InputError(f"unknown variant {variant!r}; {suggestions(variant, VARIANTS)}")
    if variant == CLOSED:
        return pair
    rng = np.random.default_rng(zlib.crc32(f"{pair.dataset}/{pair.name}/{variant}".encode()))
    side = FEW[variant][0] if variant in FEW else "target"
    rows: LabelledRows = getattr(pair, side)
    if variant == PARTIAL:
        selected = np.flatnonzero(rows.labels % KEEP_EVERY == 0)
    elif variant == LONG_TAILED:
        counts = np.bincount(rows.labels, minlength=len(rows.text))
        ranks = rng.permutation(len(counts)) + 1
        selected = _draw(rows.labels, np.maximum(1, np.round(counts.max() / ranks)).astype(int), rng)
    else:
        selected = _draw(rows.labels, np.full(len(rows.text), FEW[variant][1]), rng)
    if len(selected) == len(rows.labels):
        return None
    part = replace(rows, features=rows.features[selected], labels=rows.labels[selected])
    return replace(pair, variant=variant, **{side: part})


def make_variants(pairs: Sequence[LabelledPair], variants: Sequence[str]) -> Iterator[LabelledPair]:
    """Yield the variants of all pairs, without those that equal the pair."""
    for variant in variants:
        for pair in pairs:
            if variant_pair := make_variant(pair, variant):
                yield variant_pair


def _draw(labels: np.ndarray, most: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return sorted random row numbers, at most ``most`` (K,) of each class."""
    drawn = [rng.permutation(np.flatnonzero(labels == k))[:count] for k, count in enumerate(most)]
    return np.sort(np.concatenate(drawn))


def _read_npz(path: Path) -> dict[str, LabelledRows]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays}
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    if {"x", "y", "d", "mu", "classes"} <= set(content):
        domains = content["d"]
        parts = {str(name): domains == name for name in np.unique(domains)}
        return {
            name: LabelledRows(content["x"][rows], content["y"][rows].astype(np.int64), content["mu"])
            for name, rows in parts.items()
        }
    names = [name for name in content if f"{name}_labels" in content]
    if len(names) < 2 or not {"classes", "text"} <= set(content):
        raise InputError(str(path), expected=FORMS, got=f"an .npz of {join_names(sorted(content))}")
    return {
        name: LabelledRows(content[name], content[f"{name}_labels"].astype(np.int64), content["text"]) for name in names
    }


def _read_folder(path: Path) -> dict[str, LabelledRows]:
    files = sorted(path.glob("*.safetensors"))
    loaded = {file.stem: load_file(file) for file in files}
    if len(loaded) < 2 or not all({"features", "labels", "text"} <= set(tensors) for tensors in loaded.values()):
        got = f"{len(files)} file(s) of features, labels and text"
        raise InputError(str(path), expected=FORMS, got=got)
    return {
        name: LabelledRows(tensors["features"], tensors["labels"].astype(np.int64), tensors["text"])
        for name, tensors in loaded.items()
    }
