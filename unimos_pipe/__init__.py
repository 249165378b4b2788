"""UniMoS as a two-stage feature-cache pipeline: encode with frozen CLIP once, adapt from the cache in seconds.

From Python every command has its function: :func:`extract_features`, :func:`adapt_pairs`, :func:`run_sweep`,
:func:`run_recipe`, :func:`make_report`, :func:`predict`, ...; they return values and print nothing. They are imported
when first used, because torch takes seconds to import.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "api": ("run_recipe", "demo", "make_task", "adapt_task", "Task", "Epoch"),
    "extract.stage": ("extract_features", "ReadOptions"),
    "cache.feature_set": ("feature_set",),
    "exchange.importing": ("import_features", "ImportOptions"),
    "exchange.exporting": ("export_features",),
    "adapt.train": ("TrainedRun",),
    "adapt.pairs": ("adapt_pairs", "Training", "Place"),
    "adapt.sweep": ("run_sweep", "plan_sweep", "SweepOptions", "SweepResult"),
    "adapt.forecast": ("plan_recipe",),
    "runs.bound": ("bind_recipe",),
    "cache.layout": ("default_cache",),
    "runs.upkeep": ("list_cache", "verify_cache", "prunable", "prune_cache"),
    "runs.recipe": ("Recipe", "load_recipe"),
    "report.make": ("make_report", "Report"),
    "deploy.predict": ("predict", "predict_cached", "AnswerOptions"),
    "deploy.export": ("export_run",),
    "deploy.model": ("load", "AdaptedModel"),
    "deploy.answers": ("Answers",),
    "data.catalogue": ("list_datasets", "describe_images", "check_dataset"),
    "data.manifest": ("load_spec",),
    "bench.extract": ("bench_extract", "ExtractTrial"),
    "bench.store": ("bench_store",),
    "bench.adapt": ("bench_adapt",),
    "bench.against_plain": ("bench_against_plain", "AgainstPlain"),
    "bench.grow": ("bench_grow",),
    "base.console": ("Output",),
    "extract.catalogue": ("list_encoders",),
    "base.config": ("EncoderSpec",),
    "methods.arrays": ("task_from_arrays",),
    "deploy.estimator": ("UniMoSClassifier",),
    "base.engine": ("Compute", "RayOptions"),
}
_PUBLIC = {name: f"unimos_pipe.{home}" for home, names in _HOMES.items() for name in names}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
