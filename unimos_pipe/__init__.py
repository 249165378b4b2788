"""UniMoS as a two-stage feature-cache pipeline: encode with frozen CLIP once, adapt from the cache in seconds.

From Python every command has its function: :func:`extract_features`, :func:`adapt_pairs`, :func:`run_sweep`,
:func:`run_recipe`, :func:`make_report`, :func:`predict`, ...; they return values and print nothing. They are imported
when first used, because torch takes seconds to import.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "api": ("run_recipe", "demo", "make_task", "adapt_task", "Task", "EpochInfo"),
    "extract.extract_features": ("extract_features", "ExtractOptions"),
    "cache.feature_set": ("feature_set",),
    "interop.import_features": ("import_features", "ImportOptions"),
    "interop.export_features": ("export_features",),
    "experiments.run_plans": ("RunResult",),
    "experiments.pairs": ("adapt_pairs", "AdaptOptions", "RunLocation"),
    "experiments.sweep": ("run_sweep", "plan_sweep", "SweepOptions", "SweepResult"),
    "experiments.dry_run": ("plan_recipe",),
    "runs.resolved_recipe": ("resolve_recipe",),
    "cache.cache_paths": ("default_cache",),
    "runs.cache_usage": ("list_cache", "verify_cache", "find_prunable", "prune_cache"),
    "extract.verify_encoding": ("verify_encoding", "EncodingCheck"),
    "runs.recipe": ("Recipe", "load_recipe"),
    "runs.method_names": ("register_method",),
    "methods.unimos.loss_terms": ("register_loss",),
    "report.make_report": ("make_report", "Report"),
    "report.comparison": ("compare_runs", "Comparison"),
    "deploy.predict": ("predict", "predict_cached", "PredictOptions"),
    "deploy.export": ("export_run",),
    "deploy.adapted_model": ("load", "AdaptedModel"),
    "deploy.predictions": ("Predictions",),
    "data.datasets": ("list_datasets", "create_dataset_spec", "check_dataset"),
    "data.dataset_spec": ("load_spec",),
    "bench.extract": ("bench_extract", "ExtractTrial"),
    "bench.store": ("bench_store",),
    "bench.adapt": ("bench_adapt",),
    "bench.compare_reference": ("bench_compare_reference", "ReferenceComparison"),
    "bench.memory": ("bench_memory",),
    "bench.methods": ("bench_methods", "MethodsBench", "MethodSummary"),
    "base.terminal": ("Output",),
    "extract.list_encoders": ("list_encoders",),
    "base.method_config": ("EncoderSpec",),
    "methods.from_arrays": ("task_from_arrays",),
    "deploy.sklearn_estimator": ("UniMoSClassifier",),
    "base.ray_cluster": ("ComputeConfig", "RayOptions"),
}
_PUBLIC = {name: f"unimos_pipe.{home}" for home, names in _HOMES.items() for name in names}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
