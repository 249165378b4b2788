"""Existing shards of a domain's folder, so that only new images are encoded."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unimos_pipe.base.errors import StaleCacheError, Text
from unimos_pipe.cache.cache_paths import shard_files
from unimos_pipe.cache.encoder_identity import EncoderIdentity
from unimos_pipe.cache.shard import ImageShard, SchemaVersionError, first_difference, read_image_shard
from unimos_pipe.data.file_digests import UNREAD, FileDigests, FileRecord


@dataclass
class ExistingShards:
    """The rows of all sound shards in a folder, listed in the index or not."""

    files: list[Path] = field(default_factory=list)
    records: dict[str, FileRecord] = field(default_factory=dict)  # by path
    positions: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # content -> (position in files, row there)
    shards: dict[tuple, tuple[Path, np.ndarray, np.ndarray]] = field(default_factory=dict)  # first row, paths, contents

    def find_positions(self, file_digests: FileDigests) -> np.ndarray:
        """Return (n, 2) int64: index into ``files`` and row there of each file's features; -1 if there are none."""
        positions = [self.positions.get(row.tobytes(), (-1, -1)) for row in file_digests.digests]
        return np.array(positions, np.int64).reshape(-1, 2)

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
