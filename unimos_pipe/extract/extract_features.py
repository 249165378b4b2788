"""Stage one: from a data set's images to features in the cache. All inputs are checked first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from unimos_pipe.base.atomic_io import check_writable_folder
from unimos_pipe.base.encoder_presets import PLUGIN
from unimos_pipe.base.errors import Argument, InputError, join_names
from unimos_pipe.base.progress import NO_PROGRESS, ProgressReporter
from unimos_pipe.base.ray_cluster import ComputeConfig
from unimos_pipe.base.safe_open import DEFAULT_MAX_PIXELS
from unimos_pipe.cache.encoder_identity import encoder_id
from unimos_pipe.cache.feature_set import FeatureSet, feature_set
from unimos_pipe.cache.unreadable_images import unreadable_path
from unimos_pipe.data.build_manifest import build_manifest, count_warning, find_root
from unimos_pipe.data.frame_dataset import Frame
from unimos_pipe.data.manifest import Manifest
from unimos_pipe.extract.domain_decoders import DomainDecoders
from unimos_pipe.extract.encoder_identity_cache import (
    EncoderIdentityChangedError,
    LazyEncoder,
    load_identity,
    locate_weights_file,
    store_identity,
)
from unimos_pipe.extract.encoder_protocol import Encoder
from unimos_pipe.extract.extract_domain import ExtractReport, describe_images, extract_images, extract_text
from unimos_pipe.extract.precision import resolve_precision, save_precision_check
from unimos_pipe.extract.write_shards import encode_shards


@dataclass(frozen=True, kw_only=True)
class ExtractOptions:
    """Options of image loading and shard writing; none changes the features."""

    batch_size: int | str = 64  # images per encoder call; "auto" measures the fastest
    workers: int | None = None  # decoder processes; None: 2, on a GPU one per core
    shard_size: int = 4096  # largest number of rows in a shard
    skip_bad: bool | None = None  # skip and list unreadable images; False: fail after all others; None: skip own ones
    max_pixels: int = DEFAULT_MAX_PIXELS  # largest image that is read; those above 89 megapixels are reduced
    strict_counts: bool = False  # fail if image counts differ from the published ones (default: warn)
    force: bool = False  # encode cached images again


@dataclass(frozen=True)
class ExtractResult:
    """Result of stage one: features, a report per domain or split, warnings."""

    features: FeatureSet  # with the encoder-id of this folder
    reports: tuple[ExtractReport, ...]
    warnings: tuple[str, ...]
    precision: str  # of the encoder, never "auto"
    batch_size: int

    @property
    def folder(self) -> Path:
        """``<cache>/<dataset>/<encoder-id>``."""
        return self.features.folder()


def extract_features(
    features: str | FeatureSet | Frame = "icons",
    domains: Sequence[str] = (),
    root: str | Path | None = None,
    *,
    path: str = "path",
    label: str | None = None,
    domain: str | None = None,
    options: ExtractOptions = ExtractOptions(),
    compute: ComputeConfig = ComputeConfig(),
    reporter: ProgressReporter = NO_PROGRESS,
) -> ExtractResult:
    """Encode a data set's images and prompts into the cache; valid cached features are kept.

    Args:
        features: name or spec file of a data set, a table of images such as a pandas DataFrame, or a
            :class:`unimos_pipe.cache.feature_set.FeatureSet`.
        domains: names of domains; empty takes all.
        root: folder of the domains' folders; embedded data needs none.
        path, label, domain: columns of a table (:func:`unimos_pipe.feature_set`).
    Raises:
        InputError: unknown names, missing images or weights, or a cache that is not writable.
        StaleCacheError: cached shards of another encoder or format version.
        ExecutionError: unreadable images that are not to be skipped (the features of all others are kept), no readable
            image in a domain, a full disk, or a decoder that hung or crashed.
    """
    if not isinstance(features, FeatureSet):
        features = feature_set(features, path=path, label=label, domain=domain)
    spec = features.dataset
    if options.skip_bad is None:
        options = replace(options, skip_bad=spec.is_own)
    domain_names = tuple(dict.fromkeys(domains)) or tuple(spec.domains)
    for name in domain_names:
        spec.domain(name)
    check_writable_folder(features.cache, "cache")
    features = replace(features, encoder=resolve_precision(features))
    images = find_root(spec, Path(root) if root else None, features.cache)
    parts = [part for name in domain_names for part in spec.parts(name)]
    manifests = [build_manifest(spec, part, images, skip_missing=bool(options.skip_bad)) for part in parts]
    warnings = _check_counts(features, manifests, options.strict_counts, reporter)
    load = partial(_load_encoder, features, compute.device, manifests, reporter)
    arguments = features, domain_names, manifests, options, compute, reporter
    identity = load_identity(features.cache, features.encoder) if compute.device in ("auto", "cpu") else None
    try:
        result = _update_cache(LazyEncoder(identity, load) if identity else load(), *arguments)
    except EncoderIdentityChangedError:
        result = _update_cache(load(), *arguments)
    return replace(result, warnings=(*warnings, *result.warnings))


def _load_encoder(
    features: FeatureSet, device: str, manifests: Sequence[Manifest], reporter: ProgressReporter
) -> Encoder:
    """Load the encoder; store its identity, and the precision check if there was one."""
    from unimos_pipe.base.device import pick_device  # importing torch and open_clip takes seconds
    from unimos_pipe.extract.batch_size import sample_files
    from unimos_pipe.extract.encoder import load_encoder
    from unimos_pipe.extract.plugin_encoder import PluginEncoder

    spec = features.encoder
    weights = locate_weights_file(spec)
    if spec.pretrained == PLUGIN:
        encoder, precision_check = PluginEncoder(spec, pick_device(device)), None
    else:
        encoder, precision_check = load_encoder(spec, pick_device(device), sample_files(manifests))
    spec = replace(spec, precision=encoder.identity.precision)
    store_identity(features.cache, spec, weights, encoder.identity)
    reporter.detail(f"encoder loaded, on {encoder.device}")
    if precision_check:
        save_precision_check(_encoder_folder(features, encoder), precision_check)
        reporter.note(str(precision_check))
    return encoder


def _encoder_folder(features: FeatureSet, encoder: Encoder) -> Path:
    """``<cache>/<dataset>/<encoder-id>``."""
    return features.cache / features.dataset.cache_name / encoder_id(features.encoder, encoder.identity)


def _update_cache(
    encoder: Encoder,
    features: FeatureSet,
    names: Sequence[str],
    manifests: Sequence[Manifest],
    options: ExtractOptions,
    compute: ComputeConfig,
    reporter: ProgressReporter,
) -> ExtractResult:
    """Encode prompts and images of these domains into the cache."""
    spec = features.dataset
    folder = _encoder_folder(features, encoder)
    reporter.detail(
        f"encoder {encoder.identity.model}, weights sha256 {encoder.identity.weights_sha256}, "
        f"{encoder.identity.precision}; cache {folder}"
    )
    for name in names:
        prompt_arguments = spec.cache_name, spec.domain(name).word, spec.classes, features.templates
        extract_text(
            *prompt_arguments,
            encoder,
            folder,
            spec.class_prompts(),
            descriptions=features.descriptions,
            force=options.force,
            on_note=reporter.warn,
        )
    options = _resolve_batch_size(options, encoder, manifests, reporter)
    sizes = {"workers": options.workers, "max_pixels": options.max_pixels}
    with DomainDecoders(manifests, encoder, options.batch_size, **sizes) as decoders:
        encode = _select_encode(features, encoder, compute, decoders)
        reports = [
            _extract_domain(spec.name, manifest, encoder, folder, options, encode, reporter) for manifest in manifests
        ]
    warnings = [line for report in reports for line in _describe_images(report, folder)]
    extracted = replace(features, encoder_id=folder.name)
    return ExtractResult(extracted, tuple(reports), tuple(warnings), encoder.identity.precision, options.batch_size)


def _check_counts(
    features: FeatureSet, manifests: Sequence[Manifest], strict: bool, reporter: ProgressReporter
) -> list[str]:
    """Report notes of the scan and unexpected counts; with ``strict`` the latter raise InputError."""
    notes = [note for manifest in manifests for note in manifest.notes]
    unexpected = [warning for manifest in manifests if (warning := count_warning(features.dataset, manifest))]
    for line in notes if strict else notes + unexpected:
        reporter.warn(line)
    if unexpected and strict:
        raise InputError((Argument("strict_counts"), f": {'; '.join(unexpected)}"))
    return notes + unexpected


def _resolve_batch_size(
    options: ExtractOptions, encoder: Encoder, manifests: Sequence[Manifest], reporter: ProgressReporter
) -> ExtractOptions:
    """Return the options with the batch size as a number."""
    if options.batch_size != "auto":
        return options
    from unimos_pipe.extract.batch_size import measure_batch_size, sample_files
    from unimos_pipe.extract.image_loader import load_sample

    size, rates = measure_batch_size(encoder, load_sample(sample_files(manifests), encoder.preprocess))
    reporter.note(describe_batch_sizes(size, rates))
    return replace(options, batch_size=size)


def describe_batch_sizes(size: int, rates: dict[int, float]) -> str:
    """Return a line on the batch sizes that were tried."""
    tried_size = ", ".join(f"{tried_size}: {rate:.0f}" for tried_size, rate in rates.items())
    return f"batch size {size} (images/s {tried_size})"


def _select_encode(
    features: FeatureSet, encoder: Encoder, compute: ComputeConfig, decoders: DomainDecoders
) -> Callable:
    """Return the function that encodes shards: in this process, with these decoders, or on a cluster."""
    if compute.ray is None:
        return partial(encode_shards, decoders=decoders)
    from unimos_pipe.extract.ray_encoding import encode_on_cluster

    return partial(encode_on_cluster, spec=features.encoder, options=compute.ray.for_device(encoder.device.type))


def _extract_domain(
    name: str,
    manifest: Manifest,
    encoder: Encoder,
    folder: Path,
    options: ExtractOptions,
    encode: Callable,
    reporter: ProgressReporter,
) -> ExtractReport:
    """Extract one domain or split of a data set of this name, and report progress and result."""
    with reporter.progress(f"{name}/{manifest.domain}", len(manifest), "images") as advance:
        report = extract_images(
            manifest,
            encoder,
            folder,
            batch_size=options.batch_size,
            workers=options.workers,
            shard_size=options.shard_size,
            skip_bad=options.skip_bad,
            max_pixels=options.max_pixels,
            force=options.force,
            on_rows=advance,
            encode=encode,
        )
    for line in _describe_images(report, folder):
        reporter.warn(line)
    rate = f", {report.encoded / report.seconds:,.0f} images/s" if report.encoded else ""
    shared = "".join(f", {rows} taken from the cache of {dataset}" for dataset, rows in report.shared.items())
    reporter.note(
        f"{name}/{report.domain}: {report.rows - len(report.skipped)} rows, {report.encoded} encoded, "
        f"{report.reused} reused{shared}, {report.seconds:.1f} s{rate}"
    )
    return report


def _describe_images(report: ExtractReport, folder: Path) -> list[str]:
    """Return lines about a domain's unreadable images, those without contrast, and those of a guessed range."""
    lines = []
    if report.skipped:
        lines.append(
            f"{report.domain}: {len(report.skipped)} unreadable image(s) are left out: "
            f"{describe_images(report.skipped)}; listed in {unreadable_path(folder / report.domain)}"
        )
    if report.uniform:
        names = join_names(report.uniform, 5)
        lines.append(f"{report.domain}: {len(report.uniform)} image(s) without contrast: {names}")
    if report.guessed:
        lines.append(
            f"{report.domain}: {len(report.guessed)} image(s) of unknown range, whose grey values are scaled by "
            f"percentiles: {describe_images(report.guessed)}"
        )
    return lines
