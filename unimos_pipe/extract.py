"""Stage one, composed: the frozen encoder runs once over a domain and its prompts, shard by shard, resumable."""

import importlib.metadata
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from unimos_pipe.encoder import Encoder
from unimos_pipe.errors import RunError, StaleCacheError, listing
from unimos_pipe.files import only_one
from unimos_pipe.identity import ImageIdentity, TextIdentity
from unimos_pipe.images import read_batches
from unimos_pipe.layout import found_shards, shard_path, text_path
from unimos_pipe.manifest import Manifest
from unimos_pipe.prompts import clean_class_name, write_prompts
from unimos_pipe.shard import (
    ImageHeader,
    TextHeader,
    differing_field,
    read_image_shard,
    read_text_shard,
    write_image_shard,
    write_text_shard,
)


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
) -> ExtractReport:
    """Encode a domain's images into shards, keeping those that are whole, verified and of the same identity.

    Batches never cross a shard, so a shard's features do not depend on which others were missing.

    Args:
        encoder_folder: ``<cache>/<dataset>/<encoder-id>``.
        skip_bad: leave unreadable images out and list them, instead of failing after all good shards are written.
        force: encode everything again.
        on_rows: called with the number of rows just settled.
    Raises:
        StaleCacheError: existing shards belong to another manifest, shard size or encoder.
        RunError: unreadable images (the shards without any are kept), or a full disk.
    """
    started = time.perf_counter()
    folder = encoder_folder / manifest.domain
    identity = ImageIdentity(**asdict(encoder.identity), manifest_digest=manifest.digest())
    bounds = [(start, min(start + shard_size, len(manifest))) for start in range(0, len(manifest), shard_size)]
    with only_one(folder):
        for leftover in folder.glob("*.part"):
            leftover.unlink()
        kept = {} if force else _kept_shards(folder, identity, bounds, manifest)
        if force:
            for _, _, path in found_shards(folder):
                path.unlink()
        on_rows(sum(bounds[index][1] - bounds[index][0] for index in kept))
        missing = [index for index in range(len(bounds)) if index not in kept]
        writer = _ShardWriter(manifest, identity, folder, bounds, skip_bad)
        plan = [(index, rows) for index in missing for rows in _batches(*bounds[index], batch_size)]
        stream = read_batches(
            manifest.root,
            manifest.paths,
            [rows for _, rows in plan],
            encoder.preprocess,
            workers,
            pin_memory=encoder.device.type == "cuda",
        )
        for (index, rows), (good, pixels, bad) in zip(plan, stream, strict=True):
            features = encoder.encode_images(pixels).numpy() if good else None
            writer.add(index, good, features, bad)
            on_rows(len(rows))
    if writer.bad and not skip_bad:
        names = listing((f"{path} ({reason})" for path, reason in writer.bad), 5)
        raise RunError(
            f"{len(writer.bad)} unreadable image(s) in {manifest.root}: {names}. The other shards are kept; "
            "mend the files, or leave them out with --on-error skip"
        )
    skipped = tuple(writer.bad) + tuple(pair for header in kept.values() for pair in header.skipped)
    return ExtractReport(
        manifest.domain, len(manifest), writer.encoded, len(kept), len(missing), skipped, time.perf_counter() - started
    )


def _batches(start: int, stop: int, size: int) -> list[list[int]]:
    return [list(range(first, min(first + size, stop))) for first in range(start, stop, size)]


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


class _ShardWriter:
    """Collects encoded batches and writes each shard when its last row has come."""

    def __init__(self, manifest: Manifest, identity: ImageIdentity, folder: Path, bounds, skip_bad: bool):
        self.manifest, self.identity, self.folder, self.bounds = manifest, identity, folder, bounds
        self.skip_bad = skip_bad
        self.bad: list[tuple[str, str]] = []
        self.encoded = 0
        self._start_shard()

    def _start_shard(self) -> None:
        self.rows: list[int] = []
        self.features: list[np.ndarray] = []
        self.bad_here: list[tuple[str, str]] = []

    def add(self, index: int, rows: list[int], features: np.ndarray | None, bad: list[tuple[int, str]]) -> None:
        if rows:
            self.rows += rows
            self.features.append(features)
        self.bad_here += [(self.manifest.paths[row], reason) for row, reason in bad]
        start, stop = self.bounds[index]
        if len(self.rows) + len(self.bad_here) == stop - start:
            self.bad += self.bad_here
            if not self.bad_here or self.skip_bad:
                self._write(index)
            self._start_shard()

    def _write(self, index: int) -> None:
        start, stop = self.bounds[index]
        if not self.rows:
            raise RunError(f"no readable image in rows {start} to {stop - 1} of {self.manifest.root}")
        header = ImageHeader(
            **asdict(self.identity),
            dataset=self.manifest.dataset,
            domain=self.manifest.domain,
            class_names=self.manifest.classes,
            row_start=start,
            row_stop=stop,
            row_total=len(self.manifest),
            skipped=tuple(self.bad_here),
            versions=library_versions(),
        )
        write_image_shard(
            shard_path(self.folder, index, len(self.bounds)),
            header,
            np.concatenate(self.features),
            self.manifest.labels[self.rows],
            [self.manifest.paths[row] for row in self.rows],
            np.array(self.rows),
        )
        self.encoded += len(self.rows)


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
) -> bool:
    """Encode a domain word's prompts into a text shard; returns whether anything had to be encoded.

    The K class sentences of each template are encoded; several templates are averaged and normalised again.
    ``wording`` is what the prompts call the classes, else their cleaned names.
    """
    prompts = write_prompts(templates, word, wording or [clean_class_name(name) for name in classes])
    identity = TextIdentity(
        **asdict(encoder.identity), class_names=tuple(classes), prompts=tuple(tuple(row) for row in prompts)
    )
    path = text_path(encoder_folder, word, identity)
    with only_one(path.parent):
        if not force and path.is_file():
            try:
                read_text_shard(path)
                return False
            except StaleCacheError:
                pass  # damaged: encode it again
        features = torch.stack([encoder.encode_texts(row) for row in prompts]).mean(0)
        features = torch.nn.functional.normalize(features, dim=-1)
        header = TextHeader(
            **asdict(identity), dataset=dataset, word=word, templates=tuple(templates), versions=library_versions()
        )
        write_text_shard(path, header, features.numpy())
    return True


def library_versions() -> dict[str, str]:
    """Versions of what shapes features, recorded in headers but no part of the identity."""
    names = ("unimos-pipe", "torch", "torchvision", "open_clip_torch", "pillow", "h5py", "numpy")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
