"""Existing shards with features of a domain's images, so that only new images are encoded.

They are the shards of the domain's own folder, and those of other domains and data sets by the same encoder, for images
of equal contents. The digests in the shards are the index of images: there is no other that could be stale.
"""

import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unimos_pipe.base.errors import ExecutionError, ReadError, StaleCacheError, Text
from unimos_pipe.cache.cache_paths import domains_of_encoder, shard_files
from unimos_pipe.cache.encoder_identity import EncoderIdentity
from unimos_pipe.cache.shard import ImageShard, SchemaVersionError, first_difference, read_image_shard
from unimos_pipe.cache.shard_footer import read_contents
from unimos_pipe.data.file_digests import UNREAD, FileDigests, FileRecord


@dataclass
class ExistingShards:
    """The rows of all sound shards in a folder, listed in the index or not, and rows of other folders."""

    files: list[Path] = field(default_factory=list)  # of other folders, too, after find_in_other_folders
    records: dict[str, FileRecord] = field(default_factory=dict)  # by path
    positions: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # content -> (position in files, row there)
    shards: dict[tuple, tuple[Path, np.ndarray, np.ndarray]] = field(default_factory=dict)  # first row, paths, contents

    def find_positions(self, file_digests: FileDigests) -> np.ndarray:
        """Return (n, 2) int64: index into ``files`` and row there of each file's features; -1 if there are none."""
        positions = [self.positions.get(row.tobytes(), (-1, -1)) for row in file_digests.digests]
        return np.array(positions, np.int64).reshape(-1, 2)

    def find_in_other_folders(
        self, folder: Path, file_digests: FileDigests, encoder: EncoderIdentity, unusable: Collection[Path] = ()
    ) -> None:
        """Add rows of other domains' and data sets' shards by the same encoder, for contents without a position.

        The digests of each shard are read first, and the shard only if some of them are missing here.

        Args:
            folder: the domain's folder, ``<cache>/<dataset>/<encoder-id>/<domain>``.
            unusable: shards to pass over. So are those that cannot be read, damaged ones and other encoders'.
        """
        missing = {row.tobytes() for row in file_digests.digests} - self.positions.keys() - {UNREAD}
        for other in domains_of_encoder(folder.parent) if missing else ():
            with contextlib.suppress(ReadError):  # another user's, or superseded since
                for path in shard_files(other) if other != folder else ():
                    if path not in unusable and not missing.isdisjoint(read_contents(path)):
                        missing -= self._add_rows(path, encoder, missing)

    def _add_rows(self, path: Path, encoder: EncoderIdentity, missing: set[bytes]) -> set[bytes]:
        """Add the rows of another folder's shard with missing contents; return these."""
        try:
            shard = read_image_shard(path)
        except StaleCacheError:
            return set()
        if shard.header.encoder() != encoder:
            return set()
        rows = {digest: row for row, contents in enumerate(shard.contents) if (digest := contents.tobytes()) in missing}
        self.positions |= {digest: (len(self.files), row) for digest, row in rows.items()}
        self.files.append(path)
        return set(rows)

    def find_shard(
        self, start: int, stop: int, paths: Sequence[str], file_digests: FileDigests, with_skipped: bool
    ) -> Path | None:
        """Return a shard of exactly these rows of the manifest with their current contents, or None.

        ``with_skipped`` admits a shard that lacks the features of unreadable images.
        """
        digests = tuple(row.tobytes() for row in file_digests.digests[start:stop])
        match = self.shards.get((start, tuple(paths[start:stop]), digests))
        if match is None:
            return None
        path, rows, stamps = match
        if len(rows) < stop - start and not with_skipped:
            return None
        return path if np.array_equal(file_digests.stamps[rows], stamps) else None


def read_existing_shards(folder: Path, encoder: EncoderIdentity, domain: str, todo: Text) -> ExistingShards:
    """Read every shard of a domain's folder. A damaged one counts as absent.

    Args:
        todo: how to fix it, for messages.
    Raises:
        StaleCacheError: a shard of another encoder, or of another schema version.
        ReadError: a shard that cannot be read.
    """
    existing = ExistingShards()
    for path in shard_files(folder):
        try:
            shard = read_image_shard(path)
        except SchemaVersionError as error:
            raise StaleCacheError(f"{str(error).partition('. ')[0]}", todo=todo) from None
        except StaleCacheError:
            continue
        if difference := first_difference(shard.header.encoder(), encoder):
            name, actual, wanted = difference
            raise StaleCacheError(f"stale shard {path}: {name}", expected=wanted, got=actual, todo=todo)
        if shard.header.domain == domain:
            _add_shard(existing, path, shard)
    return existing


class SharedShardError(ExecutionError):
    """A shard of another folder that no longer holds the features that it held."""

    def __init__(self, path: Path):
        self.path = path
        super().__init__(f"{path} no longer holds the features that it held")

    def __reduce__(self) -> tuple:
        return SharedShardError, (self.path,)


def read_shared_features(path: Path, rows: np.ndarray, contents: np.ndarray) -> np.ndarray:
    """Return the (m, D) features of rows of another folder's shard that was found.

    Args:
        rows: (m,) positions in the shard.
        contents: (m, 16) digests of the images that they must be of.
    Raises:
        SharedShardError: the shard is gone, or cannot be read any more.
    """
    try:
        shard = read_image_shard(path)
    except (StaleCacheError, ReadError):
        raise SharedShardError(path) from None
    if not np.array_equal(shard.contents[rows], contents):
        raise SharedShardError(path)
    return shard.image_features[rows]


def _add_shard(existing: ExistingShards, path: Path, shard: ImageShard) -> None:
    file_index, header = len(existing.files), shard.header
    existing.files.append(path)
    index_of_row = dict(zip(shard.rows.tolist(), range(len(shard.rows)), strict=True))
    skipped = iter(header.skipped)
    names, digests = [], []
    for row in range(header.row_start, header.row_stop):
        if row not in index_of_row:
            name, _, content = next(skipped)
            digest = bytes.fromhex(content)
        else:
            name, digest = shard.paths[index_of_row[row]], shard.contents[index_of_row[row]].tobytes()
            stamp = tuple(shard.stamps[index_of_row[row]].tolist())
            if digest != UNREAD:
                existing.positions.setdefault(digest, (file_index, index_of_row[row]))
                if name not in existing.records or existing.records[name].read_at < header.read_at:
                    existing.records[name] = FileRecord(stamp, header.read_at, digest)
        names.append(name)
        digests.append(digest)
    # copies, because views would keep the whole file in memory
    existing.shards[header.row_start, tuple(names), tuple(digests)] = path, shard.rows.copy(), shard.stamps.copy()
