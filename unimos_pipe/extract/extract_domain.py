"""Extraction of one domain and its prompts, shard by shard and resumable."""

import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from unimos_pipe.base.atomic_io import remove_leftovers
from unimos_pipe.base.errors import Argument, ExecutionError, InputError, StaleCacheError, join_names
from unimos_pipe.base.locks import exclusive_lock
from unimos_pipe.base.safe_open import DEFAULT_MAX_PIXELS
from unimos_pipe.cache.cache_paths import domain_lock, index_path, text_path, wait_for_prune
from unimos_pipe.cache.domain_index import DomainIndex, read_index, remove_superseded, write_index
from unimos_pipe.cache.encoder_identity import EncoderIdentity, TextIdentity
from unimos_pipe.cache.existing_shards import ExistingShards, SharedShardError, read_existing_shards
from unimos_pipe.cache.shard import ImageHeader, TextHeader, read_header, read_text_shard, write_text_shard
from unimos_pipe.cache.unreadable_images import write_unreadable
from unimos_pipe.data.descriptions import Descriptions
from unimos_pipe.data.file_digests import FileDigests, read_file_digests
from unimos_pipe.data.manifest import Manifest
from unimos_pipe.data.prompts import DESCRIPTIONS, build_prompts, clean_class_name
from unimos_pipe.extract.encoder_protocol import Encoder
from unimos_pipe.extract.prompt_checks import identical_text_features
from unimos_pipe.extract.write_shards import EncodeResult, ShardJob, encode_shards, library_versions


@dataclass(frozen=True)
class ExtractReport:
    """Result for one domain: of ``rows``, ``encoded`` are new and ``reused`` come from its older shards.

    ``shared`` is the number of rows that come from other domains' shards by the same encoder, by data set. Of the
    encoded ones, ``uniform`` are without contrast, and ``guessed``, (path, range), have grey values that were scaled by
    percentiles.
    """

    domain: str
    rows: int
    encoded: int
    reused: int
    shared: dict[str, int]
    shards_reused: int
    shards_written: int
    skipped: tuple[tuple[str, str], ...]
    seconds: float
    uniform: tuple[str, ...] = ()
    guessed: tuple[tuple[str, str], ...] = ()


def extract_images(
    manifest: Manifest,
    encoder: Encoder,
    encoder_folder: Path,
    *,
    batch_size: int = 64,
    workers: int | None = 2,
    shard_size: int = 4096,
    skip_bad: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    force: bool = False,
    on_rows: Callable[[int], None] = lambda rows: None,
    encode: Callable[[ShardJob, Sequence[int], Encoder, Callable[[int], None]], EncodeResult] = encode_shards,
) -> ExtractReport:
    """Update a domain's shards: images whose contents are known keep their features, the others are encoded.

    Known are the images of the domain's own shards, and those of other domains and data sets in the cache by the same
    encoder, whose rows are copied.

    New shards are written next to the old ones. When all are complete, one rename replaces the domain's index, and
    shards that it no longer lists are removed. If the process is killed, the domain is either the old or the new one,
    and the next call reuses the finished shards.

    Args:
        encoder_folder: ``<cache>/<dataset>/<encoder-id>``.
        skip_bad: skip unreadable images and list them, instead of failing after all others are encoded.
        max_pixels: largest image that is read; larger ones are unreadable.
        force: encode all images again.
        on_rows: called with the number of rows that were finished.
        encode: writes the shards with new images, in this process or on a cluster.
    Raises:
        InputError, StaleCacheError: existing shards are of other images only, of another encoder or format version.
        ExecutionError: unreadable images without ``skip_bad`` (the features of all others are kept), no readable
            image, a full disk, a decoder that hung or crashed.
    """
    started = time.perf_counter()
    folder = encoder_folder / manifest.domain
    with exclusive_lock(folder, lock=domain_lock(folder)) as exclusive:
        wait_for_prune(encoder_folder)
        if exclusive:
            remove_leftovers(folder)
        reading = batch_size, workers, skip_bad, max_pixels
        plan = partial(_plan_job, manifest, encoder.identity, folder, shard_size, reading, force)
        job, reused, result = _write_domain(plan, encoder, encode, on_rows)
        paths = [reused.get(index) or job.path(index) for index in range(len(job.bounds))]
        headers = [read_header(path) for path in paths]
        skipped = tuple((path, reason) for header in headers for path, reason, _ in header.skipped)
        if len(skipped) == len(manifest):
            raise ExecutionError(f"no readable image in {manifest.root}: {describe_images(skipped)}")
        _update_index(folder, manifest, paths, headers)
        write_unreadable(folder, skipped)
        if exclusive:
            remove_superseded(folder, paths)
    shared, rows = job.shared_rows(), len(manifest)
    return ExtractReport(
        manifest.domain, rows, result.encoded, rows - len(skipped) - result.encoded - sum(shared.values()), shared,
        len(reused), len(job.bounds) - len(reused), skipped, time.perf_counter() - started,
        tuple(result.uniform), tuple(result.guessed),
    )  # fmt: skip


def _write_domain(
    plan: Callable[[Collection[Path]], tuple[ShardJob, dict[int, Path]]],
    encoder: Encoder,
    encode: Callable[[ShardJob, Sequence[int], Encoder, Callable[[int], None]], EncodeResult],
    on_rows: Callable[[int], None],
) -> tuple[ShardJob, dict[int, Path], EncodeResult]:
    """Plan and write the shards of a domain; return the job, the finished shards by number, and what was encoded.

    If a shard of another domain is removed after the plan, a second plan encodes its images.
    """
    unusable: set[Path] = set()
    while True:
        job, reused = plan(unusable)
        on_rows(sum(job.rows(index) for index in reused))
        try:
            return job, reused, _write_missing(job, reused, encoder, encode, on_rows)
        except SharedShardError as error:
            unusable.add(error.path)


def _write_missing(
    job: ShardJob,
    reused: Mapping[int, Path],
    encoder: Encoder,
    encode: Callable[[ShardJob, Sequence[int], Encoder, Callable[[int], None]], EncodeResult],
    on_rows: Callable[[int], None],
) -> EncodeResult:
    """Write the shards that are not reused: first those with new images. Raises ExecutionError for unreadable ones."""
    missing = [index for index in range(len(job.bounds)) if index not in reused]
    to_encode = [index for index in missing if job.new_rows(index)]
    to_copy = [index for index in missing if not job.new_rows(index)]
    result = encode(job, to_encode, encoder, on_rows) if to_encode else EncodeResult()
    if result.bad and not job.skip_bad:
        raise _unreadable_error(result, job.manifest)
    encode_shards(job, to_copy, encoder, on_rows)
    return result


def _plan_job(
    manifest: Manifest,
    encoder: EncoderIdentity,
    folder: Path,
    shard_size: int,
    reading: tuple[int, int | None, bool, int],
    force: bool,
    unusable: Collection[Path],
) -> tuple[ShardJob, dict[int, Path]]:
    """Return the job of a domain, and its finished shards by number.

    The job has digests of all images, bounds of the shards, and sources of known features.

    Args:
        unusable: shards of other domains to pass over.
    """
    todo = ("Add ", Argument("force", True), f" to encode {manifest.domain} again")
    existing = ExistingShards() if force else read_existing_shards(folder, encoder, manifest.domain, todo)
    file_digests = read_file_digests(manifest.root, manifest.paths, existing.records)
    _check_same_data(folder, manifest, existing, file_digests)
    if not force:
        existing.find_in_other_folders(folder, file_digests, encoder, unusable)
    starts = range(0, len(manifest), shard_size)
    bounds = tuple((start, min(start + shard_size, len(manifest))) for start in starts)
    files, sources, token = tuple(existing.files), existing.find_positions(file_digests), secrets.token_hex(4)
    job = ShardJob(manifest, file_digests, encoder, folder, token, bounds, files, sources, *reading)
    find = partial(existing.find_shard, paths=manifest.paths, file_digests=file_digests, with_skipped=job.skip_bad)
    return job, {index: path for index, rows in enumerate(bounds) if (path := find(*rows))}


def _check_same_data(folder: Path, manifest: Manifest, existing: ExistingShards, file_digests: FileDigests) -> None:
    """Raise InputError if a finished domain has features of other images only: it may be another data set's."""
    if not existing.records or not index_path(folder).is_file() or (existing.find_positions(file_digests) >= 0).any():
        return
    raise InputError(
        f"{folder} holds the features of {len(existing.records)} other images; none of the {len(manifest)} in "
        f"{manifest.root} is among them",
        todo=(
            "If this is another data set of the same name, give its spec an id, such as id = '2'; if all images were "
            "replaced, add ",
            Argument("force", True),
        ),
    )


def _unreadable_error(result: EncodeResult, manifest: Manifest) -> ExecutionError:
    return ExecutionError(
        (
            (
                f"{len(result.bad)} unreadable image(s) in {manifest.root}: {describe_images(result.bad)}. The "
                "features of all others are kept; fix the files, or skip them with "
            ),
            Argument("skip_bad", True),
        )
    )


def describe_images(images: Sequence[tuple[str, str]]) -> str:
    """Return (path, reason) of images for a message; a long list is cut."""
    return join_names((f"{path} ({reason})" for path, reason in images), 5)


def _update_index(folder: Path, manifest: Manifest, paths: Sequence[Path], headers: Sequence[ImageHeader]) -> None:
    """Write the index of the domain with these shards and the manifest's labels, unless it is up to date."""
    skipped = {path for header in headers for path, _, _ in header.skipped}
    stored = [row for row, path in enumerate(manifest.paths) if path not in skipped]
    index = DomainIndex(
        manifest.dataset,
        manifest.domain,
        manifest.classes,
        len(manifest),
        tuple((path.name, header.features_digest) for path, header in zip(paths, headers, strict=True)),
        manifest.labels[stored],
    )
    try:
        previous = read_index(folder)
    except StaleCacheError:
        previous = None  # damaged: write it again
    if previous is None or not index.equals(previous):
        write_index(folder, index)


def extract_text(
    dataset: str,
    domain_word: str,
    classes: tuple[str, ...],
    templates: Sequence[str],
    encoder: Encoder,
    encoder_folder: Path,
    class_prompts: Sequence[str] | None = None,
    *,
    descriptions: Descriptions | None = None,
    force: bool = False,
    on_note: Callable[[str], None] = lambda note: None,
) -> bool:
    """Encode the prompts of a domain word into a text shard; return whether anything was encoded.

    The K class sentences of each template are encoded; several templates are averaged and normalised again.

    Args:
        class_prompts: wording of the classes in prompts; None takes their cleaned names.
        descriptions: the sentences of each class that the only template stands for.
        on_note: called with a line if classes have identical features.
    Raises:
        InputError: a sentence is too long for the model, the sentences of a template are not known, or another
            process writes the prompts.
    """
    prompts = build_prompts(templates, domain_word, class_prompts or [clean_class_name(name) for name in classes])
    identity = TextIdentity(
        **asdict(encoder.identity), class_names=tuple(classes), prompts=tuple(tuple(row) for row in prompts)
    )
    path = text_path(encoder_folder, domain_word, identity)
    with exclusive_lock(path.parent, lock=domain_lock(path.parent), wait=True) as exclusive:
        wait_for_prune(encoder_folder)
        if exclusive:
            remove_leftovers(path.parent)
        if not force and path.is_file():
            try:
                _report_identical_classes(read_text_shard(path).text_features, classes, on_note)
                return False
            except StaleCacheError:
                pass  # damaged: encode it again
        if descriptions:
            features = encode_descriptions(encoder, descriptions.prompts(domain_word))
        else:
            _check_known(templates)
            features = encode_prompts(encoder, prompts)
        header = TextHeader(
            **asdict(identity),
            dataset=dataset,
            word=domain_word,
            templates=tuple(templates),
            versions=library_versions(),
            origin=_describe_origin(descriptions),
            logit_scale=encoder.logit_scale or 0.0,
        )
        write_text_shard(path, header, features)
    _report_identical_classes(features, classes, on_note)
    return True


def encode_prompts(encoder: Encoder, prompts: Sequence[Sequence[str]]) -> np.ndarray:
    """Return (K, D) float32 features of K sentences per template: averaged over templates and normalised again."""
    import torch  # importing torch takes seconds and cached prompts need none

    features = torch.stack([encoder.encode_texts(row) for row in prompts]).mean(0)
    return torch.nn.functional.normalize(features, dim=-1).numpy()


def encode_descriptions(encoder: Encoder, sentences: Sequence[Sequence[str]]) -> np.ndarray:
    """Return (K, D) float32 features of the sentences of K classes: averaged over a class's and normalised again."""
    import torch  # importing torch takes seconds and cached prompts need none

    features = encoder.encode_texts([text for texts in sentences for text in texts])
    means = [rows.mean(0) for rows in features.split([len(texts) for texts in sentences])]
    return torch.nn.functional.normalize(torch.stack(means), dim=-1).numpy()


def _describe_origin(descriptions: Descriptions | None) -> dict:
    """Return the sentences of descriptions for the header of a text shard."""
    return {} if descriptions is None else {"file": str(descriptions.file), "sentences": descriptions.sentences}


def _check_known(templates: Sequence[str]) -> None:
    """Raise InputError if a template stands for sentences, which are not here."""
    if unknown := [template for template in templates if template.startswith(DESCRIPTIONS)]:
        what = f"the sentences of the template {unknown[0]!r} are not in the cache"
        raise InputError(what, todo=("Pass their file as ", Argument("descriptions")))


def _report_identical_classes(features: np.ndarray, classes: Sequence[str], on_note: Callable[[str], None]) -> None:
    if note := identical_text_features(features, classes):
        on_note(note)
