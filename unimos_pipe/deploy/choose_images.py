"""Choice of the images of a run's target to label next."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from unimos_pipe.base.errors import InputError
from unimos_pipe.cache.cache_paths import default_cache
from unimos_pipe.cache.feature_calls import extract_call, import_or_extract_call
from unimos_pipe.cache.store import FeatureStore
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.data.label_file import label_file
from unimos_pipe.deploy.adapted_model import load
from unimos_pipe.methods.label_selection import choose_rows
from unimos_pipe.methods.task import load_unit_rows
from unimos_pipe.runs.method_names import LABEL_CHOICES
from unimos_pipe.runs.read_run import read_run


@dataclass(frozen=True)
class ImagesToLabel:
    """Images to label, the most useful first, and the label file whose first rows they are."""

    paths: tuple[str, ...]
    table: Path
    unlabelled: int  # images without a label, these among them


def choose_images_to_label(
    run: str | Path,
    count: int = 50,
    *,
    way: str = LABEL_CHOICES[0],
    seed: int = 0,
    dataset: str | None = None,
    cache: Path | None = None,
    device: str = "auto",
) -> ImagesToLabel:
    """Choose images of a run's target to label, and move their rows to the beginning of its label file.

    Args:
        count: of images; fewer if fewer have no label.
        way: one of :data:`unimos_pipe.runs.method_names.LABEL_CHOICES`, see :mod:`unimos_pipe.methods.label_selection`.
        seed: of the ways coverage and random.
        dataset: name or spec file; None takes the run's.
        cache: feature cache; None takes ``$UNIMOS_CACHE``, else the user's cache folder.
    Raises:
        InputError: no finished run with a model, no label file, or no image without a label.
        StaleCacheError: features of another encoder than the run's.
    """
    finished = read_run(Path(run))
    name = dataset or finished.result.dataset_file or finished.spec.dataset
    spec = load_spec(name)
    labels = label_file(spec, finished.spec.target)
    empty = {path for path, label in labels.read().items() if not label}
    model = load(run, device)
    folder = (cache or default_cache()) / spec.cache_name / model.settings["encoder_id"]
    store = FeatureStore(spec, folder, import_or_extract_call(folder.name, extract_call(name, cache=cache)))
    domain = store.domain(*spec.parts(finished.spec.target))
    candidates = np.flatnonzero([path in empty for path in domain.paths])
    if not len(candidates):
        raise InputError(f"{labels.path}: every image has a label", expected="an empty class of one that was extracted")
    features = load_unit_rows(domain, model.text.dtype, model.device)
    text = model.text
    if store.has_text(domain.encoder):
        text = torch.tensor(store.text(finished.spec.target, finished.spec.templates, domain.encoder)[0])
    elif way == "disagreement":
        raise InputError("disagreement is with zero-shot, and these features have no text", todo="Choose another way")
    chosen = choose_rows(
        way,
        features,
        model.predict_features(features).probabilities.to(model.device),
        (features @ text.to(features).mT).argmax(-1),
        torch.from_numpy(candidates).to(model.device),
        count,
        seed,
    )
    paths = tuple(domain.paths[row] for row in chosen.tolist())
    labels.move_first(paths)
    return ImagesToLabel(paths, labels.path, len(candidates))
