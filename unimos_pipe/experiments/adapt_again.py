"""A finished run made anew in its place after labels were typed."""

from dataclasses import replace
from pathlib import Path

from unimos_pipe.base.errors import ExecutionError
from unimos_pipe.base.progress import NO_PROGRESS, ProgressReporter
from unimos_pipe.base.ray_cluster import ComputeConfig
from unimos_pipe.cache.feature_set import feature_set
from unimos_pipe.experiments.pairs import AdaptOptions, RunLocation, adapt_pairs, labels_can_teach
from unimos_pipe.experiments.run_plans import RunResult
from unimos_pipe.extract.extract_features import extract_features
from unimos_pipe.runs.read_run import read_run
from unimos_pipe.runs.run_calls import dataset_argument, encoder_preset, training_options


def adapt_again(
    run: str | Path,
    *,
    cache: str | Path | None = None,
    compute: ComputeConfig = ComputeConfig(),
    reporter: ProgressReporter = NO_PROGRESS,
) -> RunResult:
    """Read the labels of a run's target again, and replace the run by one of the same options that learns from them.

    Args:
        cache: None takes ``$UNIMOS_CACHE``, else the user's cache folder.
    Raises:
        InputError, StaleCacheError: as :func:`extract_features` and :func:`adapt_pairs`.
        ExecutionError: the run could not be made.
    """
    finished = read_run(Path(run))
    spec, dataset = finished.spec, dataset_argument(finished)
    encoder = encoder_preset(finished)
    features = feature_set(dataset, encoder=encoder, templates=spec.templates, cache=cache)
    extract_features(features, [spec.target], compute=compute, reporter=reporter)
    options = replace(
        AdaptOptions(**training_options(spec, [spec.seed])),
        use_target_labels=labels_can_teach(features, spec.target, spec.method, spec.protocol),
    )
    features = feature_set(dataset, templates=spec.templates, cache=cache, encoder_id=spec.encoder_id)
    location = RunLocation(out=finished.folder, force=True)
    (result,) = adapt_pairs(
        features, [(spec.source, spec.target)], options, location, compute=compute, reporter=reporter
    )
    if result.error:
        raise ExecutionError(f"{result.folder}: {result.error}")
    return result
