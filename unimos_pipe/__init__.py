"""UniMoS as a two-stage feature-cache pipeline: encode with frozen CLIP once, adapt from the cache in seconds.

From Python every command has its function: :func:`extract_features`, :func:`adapt_pairs`, :func:`run_sweep`,
:func:`run_recipe`, :func:`make_report`, :func:`predict`, ...; they return values and print nothing. They are imported
when first used, because torch takes seconds to import.
"""

import importlib

__version__ = "0.1.0"

TYPE_CHECKING = False  # true for type checkers, which know the name; to import typing takes 13 ms

if TYPE_CHECKING:  # what _HOMES imports when first used, as type checkers and editors read it
    from unimos_pipe.api import EpochInfo as EpochInfo
    from unimos_pipe.api import Task as Task
    from unimos_pipe.api import adapt_task as adapt_task
    from unimos_pipe.api import demo as demo
    from unimos_pipe.api import make_task as make_task
    from unimos_pipe.api import run_recipe as run_recipe
    from unimos_pipe.base.encoder_presets import register_encoder as register_encoder
    from unimos_pipe.base.method_config import EncoderSpec as EncoderSpec
    from unimos_pipe.base.ray_cluster import ComputeConfig as ComputeConfig
    from unimos_pipe.base.ray_cluster import RayOptions as RayOptions
    from unimos_pipe.base.terminal import Output as Output
    from unimos_pipe.bench.adapt import bench_adapt as bench_adapt
    from unimos_pipe.bench.compare_reference import ReferenceComparison as ReferenceComparison
    from unimos_pipe.bench.compare_reference import bench_compare_reference as bench_compare_reference
    from unimos_pipe.bench.extract import ExtractTrial as ExtractTrial
    from unimos_pipe.bench.extract import bench_extract as bench_extract
    from unimos_pipe.bench.memory import bench_memory as bench_memory
    from unimos_pipe.bench.methods import MethodsBench as MethodsBench
    from unimos_pipe.bench.methods import MethodSummary as MethodSummary
    from unimos_pipe.bench.methods import bench_methods as bench_methods
    from unimos_pipe.bench.store import bench_store as bench_store
    from unimos_pipe.cache.cache_paths import default_cache as default_cache
    from unimos_pipe.cache.feature_set import feature_set as feature_set
    from unimos_pipe.data.dataset_spec import load_spec as load_spec
    from unimos_pipe.data.datasets import check_dataset as check_dataset
    from unimos_pipe.data.datasets import create_dataset_spec as create_dataset_spec
    from unimos_pipe.data.datasets import list_datasets as list_datasets
    from unimos_pipe.data.datasets import update_dataset_spec as update_dataset_spec
    from unimos_pipe.data.unpack_images import unpack_images as unpack_images
    from unimos_pipe.deploy.adapted_model import AdaptedModel as AdaptedModel
    from unimos_pipe.deploy.adapted_model import load as load
    from unimos_pipe.deploy.choose_images import ImagesToLabel as ImagesToLabel
    from unimos_pipe.deploy.choose_images import choose_images_to_label as choose_images_to_label
    from unimos_pipe.deploy.export import export_run as export_run
    from unimos_pipe.deploy.predict import PredictOptions as PredictOptions
    from unimos_pipe.deploy.predict import predict as predict
    from unimos_pipe.deploy.predict import predict_cached as predict_cached
    from unimos_pipe.deploy.predictions import Predictions as Predictions
    from unimos_pipe.deploy.sklearn_estimator import UniMoSClassifier as UniMoSClassifier
    from unimos_pipe.experiments.adapt_again import adapt_again as adapt_again
    from unimos_pipe.experiments.dry_run import RecipePlan as RecipePlan
    from unimos_pipe.experiments.dry_run import plan_recipe as plan_recipe
    from unimos_pipe.experiments.pairs import AdaptOptions as AdaptOptions
    from unimos_pipe.experiments.pairs import RunLocation as RunLocation
    from unimos_pipe.experiments.pairs import adapt_pairs as adapt_pairs
    from unimos_pipe.experiments.photo_job import EncoderWeights as EncoderWeights
    from unimos_pipe.experiments.photo_job import PhotoJobOptions as PhotoJobOptions
    from unimos_pipe.experiments.photo_job import PhotoJobResult as PhotoJobResult
    from unimos_pipe.experiments.photo_job import run_photo_job as run_photo_job
    from unimos_pipe.experiments.rerun import Repetition as Repetition
    from unimos_pipe.experiments.rerun import rerun as rerun
    from unimos_pipe.experiments.run_plans import RunResult as RunResult
    from unimos_pipe.experiments.sweep import SweepOptions as SweepOptions
    from unimos_pipe.experiments.sweep import SweepPlan as SweepPlan
    from unimos_pipe.experiments.sweep import SweepResult as SweepResult
    from unimos_pipe.experiments.sweep import plan_sweep as plan_sweep
    from unimos_pipe.experiments.sweep import run_sweep as run_sweep
    from unimos_pipe.extract.extract_features import ExtractOptions as ExtractOptions
    from unimos_pipe.extract.extract_features import extract_features as extract_features
    from unimos_pipe.extract.list_encoders import list_encoders as list_encoders
    from unimos_pipe.extract.verify_encoding import EncodingCheck as EncodingCheck
    from unimos_pipe.extract.verify_encoding import verify_encoding as verify_encoding
    from unimos_pipe.interop.combine_features import combine_features as combine_features
    from unimos_pipe.interop.export_features import export_features as export_features
    from unimos_pipe.interop.import_features import ImportOptions as ImportOptions
    from unimos_pipe.interop.import_features import import_features as import_features
    from unimos_pipe.methods.from_arrays import task_from_arrays as task_from_arrays
    from unimos_pipe.methods.unimos.loss_terms import register_loss as register_loss
    from unimos_pipe.photos.review_photos import ReviewResult as ReviewResult
    from unimos_pipe.photos.review_photos import review_photos as review_photos
    from unimos_pipe.photos.sort_photos import SortOptions as SortOptions
    from unimos_pipe.photos.sort_photos import SortResult as SortResult
    from unimos_pipe.photos.sort_photos import sort_photos as sort_photos
    from unimos_pipe.report.comparison import Comparison as Comparison
    from unimos_pipe.report.comparison import compare_runs as compare_runs
    from unimos_pipe.report.make_report import Report as Report
    from unimos_pipe.report.make_report import make_report as make_report
    from unimos_pipe.runs.cache_usage import find_prunable as find_prunable
    from unimos_pipe.runs.cache_usage import list_cache as list_cache
    from unimos_pipe.runs.cache_usage import prune_cache as prune_cache
    from unimos_pipe.runs.cache_usage import verify_cache as verify_cache
    from unimos_pipe.runs.duplicates import find_duplicates as find_duplicates
    from unimos_pipe.runs.method_names import register_method as register_method
    from unimos_pipe.runs.read_recipe import load_recipe as load_recipe
    from unimos_pipe.runs.recipe import Recipe as Recipe
    from unimos_pipe.runs.resolved_recipe import resolve_recipe as resolve_recipe
    from unimos_pipe.runs.validator_names import register_validator as register_validator

_HOMES = {
    "api": ("run_recipe", "demo", "make_task", "adapt_task", "Task", "EpochInfo"),
    "extract.extract_features": ("extract_features", "ExtractOptions"),
    "cache.feature_set": ("feature_set",),
    "interop.combine_features": ("combine_features",),
    "interop.import_features": ("import_features", "ImportOptions"),
    "interop.export_features": ("export_features",),
    "experiments.run_plans": ("RunResult",),
    "experiments.adapt_again": ("adapt_again",),
    "experiments.pairs": ("adapt_pairs", "AdaptOptions", "RunLocation"),
    "experiments.sweep": ("run_sweep", "plan_sweep", "SweepOptions", "SweepPlan", "SweepResult"),
    "experiments.photo_job": ("run_photo_job", "PhotoJobOptions", "PhotoJobResult", "EncoderWeights"),
    "experiments.rerun": ("rerun", "Repetition"),
    "experiments.dry_run": ("plan_recipe", "RecipePlan"),
    "runs.resolved_recipe": ("resolve_recipe",),
    "cache.cache_paths": ("default_cache",),
    "runs.cache_usage": ("list_cache", "verify_cache", "find_prunable", "prune_cache"),
    "extract.verify_encoding": ("verify_encoding", "EncodingCheck"),
    "runs.read_recipe": ("load_recipe",),
    "runs.recipe": ("Recipe",),
    "runs.method_names": ("register_method",),
    "methods.unimos.loss_terms": ("register_loss",),
    "runs.validator_names": ("register_validator",),
    "base.encoder_presets": ("register_encoder",),
    "report.make_report": ("make_report", "Report"),
    "report.comparison": ("compare_runs", "Comparison"),
    "photos.review_photos": ("review_photos", "ReviewResult"),
    "deploy.choose_images": ("choose_images_to_label", "ImagesToLabel"),
    "photos.sort_photos": ("sort_photos", "SortOptions", "SortResult"),
    "deploy.predict": ("predict", "predict_cached", "PredictOptions"),
    "deploy.export": ("export_run",),
    "deploy.adapted_model": ("load", "AdaptedModel"),
    "deploy.predictions": ("Predictions",),
    "data.unpack_images": ("unpack_images",),
    "runs.duplicates": ("find_duplicates",),
    "data.datasets": ("list_datasets", "create_dataset_spec", "update_dataset_spec", "check_dataset"),
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


if not TYPE_CHECKING:  # a checker reports an unknown name

    def __getattr__(name: str):
        if name in _PUBLIC:
            return getattr(importlib.import_module(_PUBLIC[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
