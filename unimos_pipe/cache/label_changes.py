"""Differences between the CSV of a domain's labels and the labels in the cache, which the last extraction read."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from unimos_pipe.cache.unreadable_images import read_unreadable
from unimos_pipe.data.build_manifest import file_size
from unimos_pipe.data.dataset_spec import DatasetSpec
from unimos_pipe.data.label_file import label_file
from unimos_pipe.data.manifest import NO_LABEL, UNKNOWN_CLASS


def describe_label_changes(
    spec: DatasetSpec, domain: str, folder: Path, paths: Sequence[str], labels: np.ndarray
) -> str | None:
    """Return a line about the changes of a domain's CSV since the last extraction, or None.

    Args:
        folder: the domain's folder in the cache.
        paths, labels: n paths and (n,) label ids in the cache.
    Raises:
        InputError: a CSV that cannot be read.
    """
    entry = spec.domain(domain)
    if not entry.manifest:
        return None
    file, root = spec.base / entry.manifest, spec.base / entry.root if entry.root else None
    listed = label_file(spec, domain).read()
    names = {NO_LABEL: ""} | dict(enumerate(spec.classes))
    cached = dict(zip(paths, (names[label] for label in labels.tolist()), strict=True))
    relabelled = sum(
        path in listed and listed[path] != label and (listed[path], label) != (UNKNOWN_CLASS, "")
        for path, label in cached.items()
    )
    counts = {
        f"of {len(cached)} images have another class": relabelled,
        "are no longer listed": sum(path not in listed for path in cached),
        "are new": _count_new(listed, cached, folder, root),
    }
    changes = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"labels of {domain} changed since the last extract: {changes}, in {file}" if changes else None


def _count_new(listed: Mapping[str, str], cached: Mapping[str, str], folder: Path, root: Path | None) -> int:
    """Return the number of listed images that the last extraction did not see."""
    new = {path for path in listed if path not in cached} - read_unreadable(folder)
    return sum(root is None or file_size(root / path) is not None for path in new)
