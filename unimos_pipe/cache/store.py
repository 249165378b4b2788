"""Stage two's door to the cache: finds shards, checks that they belong together, loads a domain once."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from unimos_pipe.base.errors import StaleCacheError, UserError, listing
from unimos_pipe.cache.identity import EncoderIdentity, TextIdentity
from unimos_pipe.cache.layout import found_shards, text_path
from unimos_pipe.cache.shard import ImageHeader, ImageShard, differing_field, read_image_shard, read_text_shard
from unimos_pipe.data.manifest import DatasetSpec
from unimos_pipe.data.prompts import write_prompts


@dataclass(frozen=True)
class DomainFeatures:
    """A domain or a split of it as stage one wrote it: (n, D) float16 features, (n,) labels (-1 = none), n paths."""

    name: str
    features: np.ndarray
    labels: np.ndarray
    paths: tuple[str, ...]
    encoder: EncoderIdentity
    digests: tuple[tuple[str, tuple[str, ...]], ...]  # of each part's shards


class FeatureStore:
    """The cached features of one data set by one encoder."""

    def __init__(self, spec: DatasetSpec, encoder_folder: Path, extract: str):
        """``extract`` is the command that makes missing shards, for messages."""
        self.spec, self.folder, self.extract = spec, encoder_folder, extract

    def domain(self, *parts: str) -> DomainFeatures:
        """Load and verify every shard of a domain, rows in manifest order.

        Args:
            parts: the domain's name, or one or both of its splits, ``clipart.train`` and ``clipart.test``.
        Raises:
            UserError: unknown domain, or missing shards (names the extract command).
            StaleCacheError: damaged shards, shards that do not belong together, or another class list.
        """
        shards = {part: self._part(part) for part in parts}
        every = [shard for group in shards.values() for shard in group]
        name = parts[0].partition(".")[0]
        for shard in every:
            if difference := differing_field(_encoder_part(shard.header), _encoder_part(every[0].header)):
                field, got, wanted = difference
                raise StaleCacheError(
                    f"the splits of {name} were encoded differently: {field}",
                    expected=_brief(wanted, got),
                    got=_brief(got, wanted),
                    todo=f"Run: {self.extract} --domain {name} --force",
                )
        return DomainFeatures(
            name,
            np.concatenate([shard.image_features for shard in every]),
            np.concatenate([shard.labels for shard in every]),
            tuple(path for shard in every for path in shard.paths),
            _encoder_part(every[0].header),
            tuple((part, tuple(shard.digest for shard in group)) for part, group in shards.items()),
        )

    def _part(self, name: str) -> list[ImageShard]:
        """The verified shards of a domain without splits, or of one split."""
        command = f"{self.extract} --domain {self.spec.domain_of(name)}"
        found = found_shards(self.folder / name)
        counts = {count for _, count, _ in found}
        if not found or (len(counts) == 1 and len(found) < max(counts)):
            have = f"{len(found)} of {max(counts, default=0)}" if found else "none"
            raise UserError(
                f"shards of {self.spec.name}/{name} are missing in {self.folder / name}",
                expected="all of them",
                got=have,
                todo=f"Run: {command}",
            )
        if len(counts) > 1:
            raise StaleCacheError(
                f"{self.folder / name} holds shards of several sets",
                expected="one count",
                got=listing(sorted(counts)),
                todo=f"Run: {command} --force",
            )
        with ThreadPoolExecutor(4) as pool:  # one shard's digest is computed while the next is read
            shards = list(pool.map(read_image_shard, [path for _, _, path in found]))
        self._check_fit(name, shards, command)
        return shards

    def _check_fit(self, name: str, shards: list[ImageShard], command: str) -> None:
        first, row = shards[0].header, 0
        for shard in shards:
            header = shard.header
            checks = [
                ("dataset", header.dataset, self.spec.name),
                ("domain", header.domain, name),
                ("class_names", header.class_names, self.spec.classes),
                ("row_start", header.row_start, row),
            ]
            if difference := differing_field(header.identity(), first.identity()):
                checks.append(difference)
            for field, got, wanted in checks:
                if got != wanted:
                    raise StaleCacheError(
                        f"stale shard in {self.folder / name}: {field}",
                        expected=_brief(wanted, got),
                        got=_brief(got, wanted),
                        todo=f"Run: {command} --force",
                    )
            row = header.row_stop
        if row != first.row_total:
            raise StaleCacheError(
                f"shards of {name}", expected=f"{first.row_total} rows", got=row, todo=f"Run: {command} --force"
            )

    def text(self, domain: str, templates: tuple[str, ...], encoder: EncoderIdentity) -> tuple[np.ndarray, str]:
        """The (K, D) float32 prompt features of a domain's word, and the shard's digest.

        Raises:
            UserError: these prompts were never encoded by this encoder (names the extract command).
            StaleCacheError: a damaged shard.
        """
        word = self.spec.domain(domain).word
        prompts = tuple(tuple(row) for row in write_prompts(templates, word, self.spec.wording()))
        parts = [getattr(encoder, entry.name) for entry in fields(EncoderIdentity)]
        identity = TextIdentity(*parts, class_names=self.spec.classes, prompts=prompts)
        path = text_path(self.folder, word, identity)
        if not path.is_file():
            raise UserError(
                f"the prompts of {domain} ({prompts[0][0]!r}, ...) are not in {path.parent}",
                todo=f"Run: {self.extract} --domain {domain}, with --template where it is not the default",
            )
        shard = read_text_shard(path)
        if difference := differing_field(shard.header, identity):
            field, got, wanted = difference
            raise StaleCacheError(
                f"stale prompts {path}: {field}",
                expected=_brief(wanted, got),
                got=_brief(got, wanted),
                todo=f"Run: {self.extract} --domain {domain} --force",
            )
        return shard.text_features, shard.digest


def _encoder_part(header: ImageHeader) -> EncoderIdentity:
    return EncoderIdentity(*(getattr(header, entry.name) for entry in fields(EncoderIdentity)))


def _brief(value: object, other: object) -> str:
    """A value for a message; of two long lists, only what one has and the other has not."""
    if isinstance(value, tuple) and isinstance(other, tuple) and len(value) + len(other) > 8:
        only = [item for item in value if item not in other]
        return f"{len(value)} entries, of them only here {listing(only, 4)}" if only else f"{len(value)} entries"
    return repr(value)
