"""Tasks whose target has classes that the source lacks: open-set, and open-partial (universal) adaptation.

Classes of a data set are hidden from the source and the prompts. Their target rows stay, and are marked as unknown for
scoring.
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import torch

from unimos_pipe.data.manifest import NO_LABEL
from unimos_pipe.methods.task import PairData, UnlabelledFeatures


def hide_classes(data: PairData, unknown: Collection[str], source_only: Collection[str] = ()) -> PairData:
    """Return a transductive pair without some classes in the source, and without others in the target.

    Args:
        unknown: classes that source and prompts lose; their target rows are unknown.
        source_only: classes whose target rows are left out.
    """
    classes, task, labels = data.held_out.classes, data.task, data.held_out.labels
    known = [k for k, name in enumerate(classes) if name not in unknown]
    new_ids = np.full(len(classes) + 1, NO_LABEL)  # the last one for rows without a label
    new_ids[known] = np.arange(len(known))
    source_labels = torch.from_numpy(new_ids).to(task.source.labels)[task.source.labels]
    source = replace(task.source, labels=source_labels).subset(source_labels != NO_LABEL)
    labels = np.full(len(data.scored_paths), NO_LABEL) if labels is None else labels
    kept = np.flatnonzero(~np.isin(labels, [k for k, name in enumerate(classes) if name in source_only]))
    is_unknown = np.isin(labels[kept], [k for k, name in enumerate(classes) if name in unknown])
    features = task.target.features[torch.from_numpy(kept).to(source_labels.device)]
    suffix = f"without {', '.join(sorted(unknown))}"
    return replace(
        data,
        task=replace(
            task,
            source=replace(source, name=f"{task.source.name} {suffix}"),
            target=UnlabelledFeatures(features, f"{task.target.name} without {', '.join(sorted(source_only))}"),
            text_features=task.text_features[known],
        ),
        held_out=replace(
            data.held_out,
            labels=new_ids[labels[kept]],
            classes=tuple(classes[k] for k in known),
            unknown=is_unknown,
        ),
        scored_paths=tuple(data.scored_paths[row] for row in kept.tolist()),
        shard_digests=data.shard_digests | {"hidden classes": sorted(unknown), "source classes": sorted(source_only)},
    )
