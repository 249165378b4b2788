"""Stage one, composed: the frozen encoder runs once over a domain and its prompts, shard by shard, resumable."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from unimos_pipe.base.errors import RunError, StaleCacheError, listing
from unimos_pipe.base.files import remove_leftovers
from unimos_pipe.base.locks import only_one
from unimos_pipe.cache.identity import ImageIdentity, TextIdentity
from unimos_pipe.cache.layout import domain_lock, found_shards, pass_prune, text_path
from unimos_pipe.cache.shard import (
    ImageHeader,
    TextHeader,
    differing_field,
    read_image_shard,
    read_text_shard,
    write_text_shard,
)
from unimos_pipe.data.manifest import Manifest
from unimos_pipe.data.prompts import clean_class_name, write_prompts
from unimos_pipe.extract.encoder import Encoder
from unimos_pipe.extract.encoding import Made, ShardJob, encode_shards, library_versions
from unimos_pipe.extract.sentences import same_text


@dataclass(frozen=True)
class ExtractReport:
    """What stage one did for one domain."""

    domain: str
    rows: int
    encoded: int
    shards_kept: int
    shards_written: int
    skipped: tuple[tuple[str, str], ...]
    seconds: float


def extract_images(
    manifest: Manifest,
    encoder: Encoder,
    encoder_folder: Path,
    *,
    batch_size: int = 64,
    workers: int = 2,
    shard_size: int = 4096,
    skip_bad: bool = False,
    force: bool = False,
    on_rows: Callable[[int], None] = lambda rows: None,
    make: Callable[[ShardJob, Sequence[int], Encoder, Callable[[int], None]], Made] = encode_shards,
) -> ExtractReport:
    """Encode a domain's images into shards, keeping those that are whole, verified and of the same identity.

    Args:
        encoder_folder: ``<cache>/<dataset>/<encoder-id>``.
        skip_bad: leave unreadable images out and list them, instead of failing after all good shards are written.
        force: encode everything again.
        on_rows: called with the number of rows just settled.
        make: makes the missing shards, here (:func:`unimos_pipe.extract.encoding.encode_shards`) or on a cluster.
    Raises:
        StaleCacheError: existing shards belong to another manifest, shard size or encoder.
        RunError: unreadable images (the shards without any are kept), a full disk, or a decoder that hung or crashed.
    """
    started = time.perf_counter()
    folder = encoder_folder / manifest.domain
    identity = ImageIdentity(**asdict(encoder.identity), manifest_digest=manifest.digest())
    starts = range(0, len(manifest), shard_size)
    bounds = tuple((start, min(start + shard_size, len(manifest))) for start in starts)
    job = ShardJob(manifest, identity, folder, bounds, batch_size, workers, skip_bad)
    with only_one(folder, lock=domain_lock(folder)) as alone:
        pass_prune(encoder_folder)
        if alone:
            remove_leftovers(folder)
        kept = {} if force else _kept_shards(folder, identity, bounds, manifest)
        if force:
            for _, _, path in found_shards(folder):
                path.unlink()
        on_rows(sum(job.rows(index) for index in kept))
        missing = [index for index in range(len(bounds)) if index not in kept]
        made = make(job, missing, encoder, on_rows) if missing else Made()
    if made.bad and not skip_bad:
        names = listing((f"{path} ({reason})" for path, reason in made.bad), 5)
        raise RunError(
            f"{len(made.bad)} unreadable image(s) in {manifest.root}: {names}. The other shards are kept; "
            "mend the files, or leave them out with --on-error skip"
        )
    skipped = tuple(made.bad) + tuple(pair for header in kept.values() for pair in header.skipped)
    return ExtractReport(
        manifest.domain, len(manifest), made.encoded, len(kept), len(missing), skipped, time.perf_counter() - started
    )


def _kept_shards(folder: Path, identity: ImageIdentity, bounds, manifest: Manifest) -> dict[int, ImageHeader]:
    """Headers of the shards that can stay, by index. A damaged one is made again, a foreign one is refused."""
    kept = {}
    for index, count, path in found_shards(folder):
        try:
            header = read_image_shard(path).header
        except StaleCacheError:
            continue  # damaged: encode it again and replace it
        difference = differing_field(header.identity(), identity)
        if difference is None and (count != len(bounds) or bounds[index] != (header.row_start, header.row_stop)):
            difference = "shard size", header.row_stop - header.row_start, bounds[0][1]
        if difference:
            name, found, wanted = difference
            raise StaleCacheError(
                f"stale shard {path}: {name}",
                expected=_short(wanted),
                got=_short(found),
                todo=f"Add --force to encode {manifest.domain} again",
            )
        kept[index] = header
    return kept


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def extract_text(
    dataset: str,
    word: str,
    classes: tuple[str, ...],
    templates: Sequence[str],
    encoder: Encoder,
    encoder_folder: Path,
    wording: Sequence[str] | None = None,
    *,
    force: bool = False,
    on_note: Callable[[str], None] = lambda note: None,
) -> bool:
    """Encode a domain word's prompts into a text shard; returns whether anything had to be encoded.

    The K class sentences of each template are encoded; several templates are averaged and normalised again.
    ``wording`` is what the prompts call the classes, else their cleaned names; ``on_note`` is told, in a line, of
    classes whose features are equal.

    Raises:
        UserError: a sentence is too long for the model, or another process makes the prompts.
    """
    prompts = write_prompts(templates, word, wording or [clean_class_name(name) for name in classes])
    identity = TextIdentity(
        **asdict(encoder.identity), class_names=tuple(classes), prompts=tuple(tuple(row) for row in prompts)
    )
    path = text_path(encoder_folder, word, identity)
    with only_one(path.parent, lock=domain_lock(path.parent), wait=True) as alone:
        pass_prune(encoder_folder)
        if alone:
            remove_leftovers(path.parent)
        if not force and path.is_file():
            try:
                _tell_same(read_text_shard(path).text_features, classes, on_note)
                return False
            except StaleCacheError:
                pass  # damaged: encode it again
        features = torch.stack([encoder.encode_texts(row) for row in prompts]).mean(0)
        features = torch.nn.functional.normalize(features, dim=-1)
        header = TextHeader(
            **asdict(identity), dataset=dataset, word=word, templates=tuple(templates), versions=library_versions()
        )
        write_text_shard(path, header, features.numpy())
    _tell_same(features.numpy(), classes, on_note)
    return True


def _tell_same(features: np.ndarray, classes: Sequence[str], on_note: Callable[[str], None]) -> None:
    if note := same_text(features, classes):
        on_note(note)
