"""Cache maintenance: list, verify, find prunable items."""

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath

import numpy as np

from unimos_pipe.base.atomic_io import remove
from unimos_pipe.base.dataclass_parsing import fingerprint
from unimos_pipe.base.errors import InputError, StaleCacheError, join_names
from unimos_pipe.base.locks import exclusive_lock
from unimos_pipe.base.safe_open import list_folder
from unimos_pipe.cache.cache_paths import ENCODER_FOLDER, domain_locks, index_path, is_imported, prune_lock, shard_files
from unimos_pipe.cache.domain_index import read_index
from unimos_pipe.cache.encoder_identity import EncoderIdentity
from unimos_pipe.cache.feature_checks import count_non_unit, text_fault
from unimos_pipe.cache.shard import (
    ImageShard,
    SchemaVersionError,
    first_difference,
    read_header,
    read_image_shard,
    read_text_shard,
)
from unimos_pipe.data.file_digests import read_file_digests
from unimos_pipe.data.manifest import Manifest


@dataclass(frozen=True)
class CacheEntry:
    """One folder of the cache: a domain's shards, or an encoder's text shards (``domain`` is "text")."""

    folder: Path
    dataset: str
    encoder_id: str
    domain: str
    shards: int
    rows: int
    bytes: int
    state: str  # "complete", or the first problem found


def list_entries(cache: Path) -> list[CacheEntry]:
    """Return all domain and text folders of a cache, by name. Only headers are read."""
    return [_read_entry(folder) for folder in _encoder_folders(cache) for folder in _subfolders(folder)]


def _encoder_folders(cache: Path) -> Iterator[Path]:
    for dataset in _subfolders(cache):
        yield from (folder for folder in _subfolders(dataset) if ENCODER_FOLDER.fullmatch(folder.name))


def _subfolders(folder: Path) -> list[Path]:
    """Return the subfolders of a folder, sorted, without links."""
    return [path for path in list_folder(folder) if path.is_dir() and not path.is_symlink()]


def _read_entry(folder: Path) -> CacheEntry:
    paths, state = _shard_files(folder), "complete"
    kind = "text" if folder.name == "text" else "image"
    headers = []
    for path in paths:
        try:
            headers.append(read_header(path, kind))
        except SchemaVersionError:
            state = "of another version"
        except StaleCacheError:
            state = "damaged"
    if kind == "text":
        rows = sum(len(header.class_names) for header in headers)
    else:
        rows = sum(header.row_stop - header.row_start - len(header.skipped) for header in headers)
        state = _index_state(folder) if state == "complete" else state
    encoder = folder.parent
    size = sum(path.stat().st_size for path in paths)
    return CacheEntry(folder, encoder.parent.name, encoder.name, folder.name, len(paths), rows, size, state)


def _index_state(folder: Path) -> str:
    """Return the state of an image folder by its index; shards are not read."""
    try:
        index = read_index(folder)
    except StaleCacheError:
        return "damaged"
    if index is None:
        return "not finished"
    present = sum((folder / name).is_file() for name, _ in index.shards)
    return "complete" if present == len(index.shards) else f"{present} of {len(index.shards)} shards"


def _shard_files(folder: Path) -> list[Path]:
    """Return a text folder's shards, or those in an image folder's index (all if there is no sound index)."""
    if folder.name == "text":
        return list_folder(folder, "*.h5")
    try:
        index = read_index(folder)
    except StaleCacheError:
        index = None
    if index is None:
        return shard_files(folder)
    return [path for name, _ in index.shards if (path := folder / name).is_file()]


def verify_entry(entry: CacheEntry) -> Iterator[str]:
    """Yield every fault of a folder's shards: damage, norms, rows, and headers that do not fit."""
    kind = "text" if entry.domain == "text" else "image"
    shards = []
    for path in _shard_files(entry.folder):
        try:
            shard = read_text_shard(path) if kind == "text" else read_image_shard(path)
        except StaleCacheError as error:
            yield str(error)
            continue
        shards.append((path, shard))
        features = shard.text_features if kind == "text" else shard.image_features
        if wrong := count_non_unit(features):
            yield f"{path}: {wrong} feature(s) that are not of unit norm"
        elif kind == "text" and (fault := text_fault(features)):
            yield f"{path}: the text features {fault}"
        yield from _check_location(path, shard.header, entry)
    if kind == "image":
        if entry.state not in ("complete", "damaged"):
            yield f"{entry.folder}: {entry.state}"
        yield from _check_sequence(entry.folder, shards)


def _check_location(path: Path, header, entry: CacheEntry) -> Iterator[str]:
    """Yield differences between a header and the folders of its file."""
    identity = EncoderIdentity(*(getattr(header, part.name) for part in fields(EncoderIdentity)))
    expected = [("data set", header.dataset, entry.dataset)]
    if entry.domain != "text":
        expected.append(("domain", header.domain, entry.domain))
    short = ENCODER_FOLDER.fullmatch(entry.encoder_id)[2]
    expected.append(("encoder fingerprint", fingerprint(asdict(identity))[:8], short))
    for name, actual, wanted in expected:
        if actual != wanted:
            yield f"{path} is in the wrong folder: {name}: expected {wanted}, got {actual}"


def _check_sequence(folder: Path, shards: Sequence[tuple[Path, ImageShard]]) -> Iterator[str]:
    """Yield gaps between a domain's shards, differences from its index, and unsafe or repeated paths."""
    row, stored, seen = 0, 0, set()
    for path, shard in shards:
        header = shard.header
        if difference := first_difference(header.encoder(), shards[0][1].header.encoder()):
            name, actual, wanted = difference
            yield f"{path}: {name} differs from the first shard's: {wanted} there, {actual} here"
        if header.row_start != row:
            yield f"{path} starts at row {header.row_start}, expected {row}"
        row, stored = header.row_stop, stored + len(shard.paths)
        if unsafe := [name for name in shard.paths if not is_inside(name)]:
            yield f"{path}: paths that leave the data root: {join_names(unsafe, 3)}"
        if repeated := [name for name in shard.paths if name in seen]:
            yield f"{path}: paths that stand in an earlier shard too: {join_names(repeated, 3)}"
        seen.update(shard.paths)
    try:
        index = read_index(folder)
    except StaleCacheError as error:
        yield str(error)
        return
    if index is None or not shards:
        return
    digests = dict(index.shards)
    for path, shard in shards:
        if shard.header.features_digest != digests[path.name]:
            yield f"{path} holds other features than {index_path(folder).name} says"
    for what, actual, wanted in (("last row", row, index.row_total), ("number of labels", len(index.labels), stored)):
        if actual != wanted:
            yield f"{folder}: the {what} is {actual}, expected {wanted}"


def is_inside(name: str) -> bool:
    """Return True if a relative POSIX path stays inside its folder."""
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\\" not in name and "\0" not in name


SUPERSEDED, DAMAGED = "no longer part of its domain", "damaged; extract makes it again"
LEFTOVER = "left by a killed writer"


@dataclass(frozen=True)
class PrunableItem:
    """An item of the cache that can be removed, with its size and the reason."""

    path: Path
    bytes: int
    reason: str


def find_prunable_items(
    cache: Path, needed: Collection[tuple[str, str]], imported: Collection[str] = ()
) -> list[PrunableItem]:
    """Find removable items: leftovers of killed writers, damaged shards, and features of encoders not in ``needed``.

    Imported features are kept, even damaged, because they cannot be made again; see :func:`damaged_imports`.

    Args:
        needed: (data set, encoder-id) of every encoder folder to keep.
        imported: encoder-ids of imported features whose damaged and superseded shards may be removed.
    Raises:
        ReadError: a file cannot be read.
    """
    items = []
    for folder in _encoder_folders(cache):
        if not is_imported(folder) and (folder.parent.name, folder.name) not in needed:
            items.append(PrunableItem(folder, _total_size(folder), "no recipe or run needs it"))
            continue
        for part in _subfolders(folder):
            shards, removable = _find_removable_shards(part)
            items += removable if not is_imported(folder) or folder.name in imported else []
            part_leftovers = [
                path for path in list_folder(part) if path not in shards and _is_leftover(path) and path.is_file()
            ]
            items += [PrunableItem(path, path.stat().st_size, LEFTOVER) for path in part_leftovers]
    embedded = cache / "embedded"
    leftovers = [*list_folder(cache, ".write-*"), *list_folder(cache, ".unimos-*"), *list_folder(embedded, ".unimos-*")]
    leftovers += list_folder(embedded, "*.part-*")  # of an unpacking by an earlier version
    return items + [PrunableItem(path, _total_size(path), LEFTOVER) for path in sorted(leftovers)]


def damaged_imports(cache: Path, imported: Collection[str] = ()) -> list[Path]:
    """Return damaged and superseded shards of imported features, except those of the encoder-ids in ``imported``."""
    folders = [folder for folder in _encoder_folders(cache) if is_imported(folder) and folder.name not in imported]
    return [item.path for folder in folders for part in _subfolders(folder) for item in _find_removable_shards(part)[1]]


def _find_removable_shards(part: Path) -> tuple[set[Path], list[PrunableItem]]:
    """Return all shards of a domain or text folder, and the damaged or superseded ones among them."""
    indexed = _shard_files(part)
    superseded = sorted(set(shard_files(part)) - set(indexed)) if part.name != "text" else []
    damaged = [PrunableItem(path, path.stat().st_size, DAMAGED) for path in indexed if _is_damaged(path)]
    return {*indexed, *superseded}, damaged + [
        PrunableItem(path, path.stat().st_size, SUPERSEDED) for path in superseded
    ]


def _is_damaged(path: Path) -> bool:
    """Return True if a shard was read completely and is damaged. Raises ReadError if it cannot be read."""
    try:
        (read_text_shard if path.parent.name == "text" else read_image_shard)(path)
    except SchemaVersionError:
        return False
    except StaleCacheError:
        return True
    return False


def _is_leftover(path: Path) -> bool:
    return path.suffix == ".part" or path.name == ".lock" or path.name.startswith(".write-")


def remove_if_unused(cache: Path, item: PrunableItem) -> bool:
    """Remove an item of :func:`find_prunable_items`.

    Returns False, and removes nothing, if another process may be using it.

    A process that takes a domain's lock meanwhile waits (:func:`unimos_pipe.cache.cache_paths.wait_for_prune`), so
    nothing that it uses is removed.
    """
    parts = item.path.relative_to(cache).parts
    with contextlib.ExitStack() as locks:
        try:
            if parts[0] == "embedded" or len(parts) == 1:
                locks.enter_context(exclusive_lock(cache / "embedded", lock=cache / "embedded" / ".unpacking.lock"))
            else:
                encoder = cache.joinpath(*parts[:2])
                locks.enter_context(exclusive_lock(encoder, lock=prune_lock(encoder)))
                for lock in domain_locks(encoder):
                    locks.enter_context(exclusive_lock(encoder, lock=lock))
        except InputError:
            return False
        if item.reason == SUPERSEDED and item.path in _shard_files(item.path.parent):
            return False  # an extraction has finished since it was listed
        if item.reason == DAMAGED and not (item.path.is_file() and _is_damaged(item.path)):
            return False  # it has been made again since, or memory was at fault
        remove(item.path)
    return True


def _total_size(folder: Path) -> int:
    if not folder.is_dir():
        return folder.lstat().st_size
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def read_sound_shards(entry: CacheEntry) -> list[ImageShard]:
    """Return a domain's shards in order. Raises StaleCacheError for a damaged one."""
    return [read_image_shard(path) for path in _shard_files(entry.folder)]


def find_changed_image(shards: Sequence[ImageShard], manifest: Manifest) -> str | None:
    """Return a line about the first image that differs from the domain's shards, or None."""
    digest_of_path = {
        name: row.tobytes() for shard in shards for name, row in zip(shard.paths, shard.contents, strict=True)
    }
    digest_of_path |= {name: bytes.fromhex(content) for shard in shards for name, _, content in shard.header.skipped}
    current = read_file_digests(manifest.root, manifest.paths, {})
    for name, row in zip(manifest.paths, current.digests, strict=True):
        if digest_of_path.pop(name, None) != row.tobytes():
            return f"{name} is new or has changed"
    return f"{next(iter(digest_of_path))} is gone" if digest_of_path else None


def verify_features(
    shards: Sequence[ImageShard], features: np.ndarray, rows: Sequence[tuple[int, int]], min_cosine: float
) -> Iterator[str]:
    """Yield rows whose stored feature differs from that of encoding the image again.

    Args:
        features: (m, D) float32 unit-norm, encoded again.
        rows: (shard, row in it) of each.
        min_cosine: the smallest cosine that counts as equal.
    """
    for feature, (shard, row) in zip(features, rows, strict=True):
        cosine = float(feature @ shards[shard].image_features[row].astype(np.float32))
        if not cosine >= min_cosine:
            yield f"{shards[shard].paths[row]}: encoded again it has a cosine of {cosine:.4f} to the stored feature"
