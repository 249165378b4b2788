"""The whole job on two folders of photos: describe, encode, adapt, report, sort. Finished steps are kept."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from unimos_pipe.base.atomic_io import check_writable_folder
from unimos_pipe.base.encoder_presets import PRESETS
from unimos_pipe.base.errors import Argument, Call, ExecutionError, InputError, suggestions
from unimos_pipe.base.optional_deps import find_missing_packages
from unimos_pipe.base.progress import NO_PROGRESS, ProgressReporter
from unimos_pipe.base.ray_cluster import ComputeConfig
from unimos_pipe.cache.feature_set import FeatureSet, feature_set
from unimos_pipe.data.dataset_spec import load_spec
from unimos_pipe.data.datasets import create_dataset_spec, update_dataset_spec
from unimos_pipe.data.update_dataset import DatasetUpdate
from unimos_pipe.experiments.pairs import AdaptOptions, RunLocation, adapt_pairs, labels_can_teach
from unimos_pipe.experiments.run_plans import RunResult
from unimos_pipe.extract.extract_features import ExtractOptions, extract_features
from unimos_pipe.extract.hub import HubFile, cached_weights, download_size
from unimos_pipe.photos.label_sample import labels_like_random
from unimos_pipe.photos.sort_photos import SortOptions, SortResult, check_apart, sort_photos
from unimos_pipe.report.make_report import Report, make_report
from unimos_pipe.runs.method_names import AUTO
from unimos_pipe.runs.read_run import read_run
from unimos_pipe.runs.unknown_option import OFF

SOURCE, TARGET = "shop", "phone"  # domains
ENCODER = "ViT-B-16"


@dataclass(frozen=True, kw_only=True)
class PhotoJobOptions:
    """Options of :func:`run_photo_job`."""

    encoder: str = ""  # a preset's name; empty: that of the job's spec, or ViT-B-16 for a new job
    unknown: str = OFF  # photos of none of the classes: off, auto, or their share such as "0.2"
    label_set: str = ""  # closed (every class occurs among the photos) or partial; empty: unknown
    sort: SortOptions = field(default_factory=lambda: SortOptions(precision=0.9))
    workers: int = 2  # processes that decode images


@dataclass(frozen=True)
class EncoderWeights:
    """The encoder of a job: preset's name, and whether its weights are here.

    ``download_bytes`` is the size of the download; None if nothing is downloaded or the hub cannot be reached.
    """

    name: str
    here: bool
    download_bytes: int | None


@dataclass(frozen=True)
class PhotoJobResult:
    """Result of :func:`run_photo_job`; ``report`` is None if the packages of the extra ``[report]`` are missing."""

    spec: Path
    run: RunResult
    report: Report | None
    sorted: SortResult
    labels_like_random: bool  # False: labelled photos are surer, or less sure, than all


def run_photo_job(
    shop: str | Path,
    phone: str | Path,
    to: str | Path = "sorted",
    work: str | Path = "photo-work",
    options: PhotoJobOptions = PhotoJobOptions(),
    *,
    cache: str | Path | None = None,
    compute: ComputeConfig = ComputeConfig(),
    reporter: ProgressReporter = NO_PROGRESS,
    on_step: Callable[[Call], None] = lambda call: None,
    on_update: Callable[[DatasetUpdate], None] = lambda update: None,
    on_encoder: Callable[[EncoderWeights], None] = lambda weights: None,
    format_call: Callable[[Call], str] = str,
) -> PhotoJobResult:
    """Sort unlabelled photos by class: the five public functions that a person would call, one after the other.

    An interrupted job resumes. Repeated after photos or labels have changed, it does only what these changed. Typed
    labels of photos teach.

    Args:
        shop: folder with a folder of labelled images for each class.
        phone: folder of unlabelled photos.
        to: where the class folders go; apart from both.
        work: folder of the job: ``photos.toml``, ``photos.phone.csv`` (labels can be typed there), ``run``, ``report``.
        on_step: called with the equivalent call before each step.
        on_update: called with the changes of the photos since the last time.
        on_encoder: called before the encoder is used.
        format_call: how the page shows calls.
    Raises:
        InputError, ExecutionError: as the five functions; or ``work`` holds the job of other folders.
    """
    shop, phone, to, work = Path(shop), Path(phone), Path(to), Path(work)
    cache = Path(cache) if cache else None
    training = AdaptOptions(method=AUTO, label_set=options.label_set, unknown=options.unknown)
    training.method_spec("transductive")  # faults of the options are told before hours of work
    _check_folders(shop, phone, to, work)
    spec_file, update = _describe(shop, phone, work / "photos.toml", options.encoder, reporter, on_step)
    if update:
        on_update(update)
    features = feature_set(str(spec_file), encoder=options.encoder or None, cache=cache)
    given = {"encoder": options.encoder} if options.encoder else {}
    features_call = Call("feature_set", {"dataset": str(spec_file), **given, **({"cache": cache} if cache else {})})
    _tell_encoder(features, on_encoder)
    on_step(Call("extract_features", {"features": features_call}))
    extract_features(features, options=ExtractOptions(workers=options.workers), compute=compute, reporter=reporter)
    training = replace(training, use_target_labels=labels_can_teach(features, TARGET, AUTO))
    run_folder = work / "run"
    on_step(_adapt_call(features_call, training, run_folder))
    location = RunLocation(out=run_folder, keep=True)
    (run,) = adapt_pairs(features, [(SOURCE, TARGET)], training, location, compute=compute, reporter=reporter)
    if run.error:
        raise ExecutionError(f"{run.folder}: {run.error}")
    report = _report(run_folder, work / "report", cache, reporter, on_step, format_call)
    sort_arguments = {name: value for name, value in vars(options.sort).items() if value not in (None, False)}
    on_step(Call("sort_photos", {"run": str(run_folder), "to": to, **sort_arguments}))
    result = sort_photos(run_folder, to, options.sort, cache=cache, reporter=reporter)
    return PhotoJobResult(spec_file, run, report, result, labels_like_random(read_run(run_folder).predictions))


def _adapt_call(features: Call, training: AdaptOptions, run_folder: Path) -> Call:
    """Return the call that adapts, with the options that are not the defaults."""
    defaults = vars(AdaptOptions())
    arguments = {
        "features": features,
        "pairs": [(SOURCE, TARGET)],
        "options": Call("AdaptOptions", {name: new for name, new in vars(training).items() if new != defaults[name]}),
        "location": Call("RunLocation", {"out": run_folder}),
    }
    return Call("adapt_pairs", arguments)


def _check_folders(shop: Path, phone: Path, to: Path, work: Path) -> None:
    """Raise InputError for folders that are missing, in each other, or cannot be written to."""
    for folder in (shop, phone):
        if not folder.is_dir():
            raise InputError(f"no folder {folder}")
    first, second = shop.resolve(), phone.resolve()
    if first.is_relative_to(second) or second.is_relative_to(first):
        raise InputError(f"{shop} and {phone} are one folder, or one is in the other", expected="two folders apart")
    check_apart(to, (shop, phone))
    if any(work.absolute().is_relative_to(folder.absolute()) for folder in (shop, phone)):
        raise InputError((Argument("work"), f" {work}: it is in a folder of images"), expected="a folder apart")
    check_writable_folder(work, "work")
    check_writable_folder(to, "to")


def _describe(
    shop: Path, phone: Path, spec_file: Path, encoder: str, reporter: ProgressReporter, on_step: Callable[[Call], None]
) -> tuple[Path, DatasetUpdate | None]:
    """Return the job's spec file, written if there is none yet; else updated, with the changes of the photos."""
    if encoder and encoder not in PRESETS:
        raise InputError(f"unknown encoder {encoder!r}; {suggestions(encoder, PRESETS)}")
    if not spec_file.exists():
        domains = [f"{SOURCE}={shop}:folders", f"{TARGET}={phone}:none"]
        chosen = encoder or ENCODER
        on_step(Call("create_dataset_spec", {"domains": domains, "out": spec_file, "encoder": chosen}))
        create_dataset_spec(domains, spec_file, encoder=chosen, reporter=reporter)
        return spec_file, None
    spec = load_spec(str(spec_file))
    for name, folder in ((SOURCE, shop), (TARGET, phone)):
        if name not in spec.domains or (spec.base / spec.domain(name).root).resolve() != folder.resolve():
            raise InputError(
                f"{spec_file} describes other folders than {shop} and {phone}",
                todo=("Choose another folder with ", Argument("work")),
            )
    on_step(Call("update_dataset_spec", {"file": spec_file}))
    return spec_file, update_dataset_spec(spec_file)


def _tell_encoder(features: FeatureSet, on_encoder: Callable[[EncoderWeights], None]) -> None:
    name = next((name for name, preset in PRESETS.items() if preset.spec.model == features.encoder.model), "")
    hub = PRESETS[name].hub if name else None
    here = hub is None or cached_weights(HubFile(hub)) is not None
    needed = not here and features.missing_domains(list(features.dataset.domains))
    on_encoder(EncoderWeights(name, here, download_size(HubFile(hub)) if hub and needed else None))


def _report(
    run: Path,
    out: Path,
    cache: Path | None,
    reporter: ProgressReporter,
    on_step: Callable[[Call], None],
    format_call: Callable[[Call], str],
) -> Report | None:
    if find_missing_packages("report"):
        return None
    on_step(Call("make_report", {"runs": [str(run)], "out": out}))
    return make_report(run, out, cache=cache, format_call=format_call, reporter=reporter)
