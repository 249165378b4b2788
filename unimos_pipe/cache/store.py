"""Reading of cached features for stage two: finds shards, checks their consistency, loads domains."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path

import numpy as np

from unimos_pipe.base.errors import Argument, Call, InputError, ReadError, StaleCacheError, Text, join_names
from unimos_pipe.base.safe_open import list_folder
from unimos_pipe.cache.cache_paths import index_path, shard_files, text_path
from unimos_pipe.cache.domain_index import DomainIndex, read_index
from unimos_pipe.cache.encoder_identity import IMPORTED, EncoderIdentity, TextIdentity
from unimos_pipe.cache.feature_calls import domain_call
from unimos_pipe.cache.feature_checks import text_fault
from unimos_pipe.cache.label_changes import describe_label_changes
from unimos_pipe.cache.shard import (
    ImageShard,
    SchemaVersionError,
    first_difference,
    read_header,
    read_image_shard,
    read_text_shard,
)
from unimos_pipe.cache.shard_footer import find_features
from unimos_pipe.data.dataset_spec import DatasetSpec
from unimos_pipe.data.prompts import build_prompts


@dataclass(frozen=True)
class DomainFeatures:
    """Features of a domain or a split: (n, D) float16 features, (n,) int64 labels (-1 = none), n paths."""

    name: str
    features: np.ndarray
    labels: np.ndarray
    paths: tuple[str, ...]
    encoder: EncoderIdentity
    digests: tuple[tuple[str, tuple[str, ...]], ...]  # of the features in each part's shards
    label_digests: tuple[tuple[str, str], ...]  # of each part's labels and class names


@dataclass(frozen=True)
class _Part:
    """A loaded domain without splits, or a loaded split."""

    index: DomainIndex
    shards: list[ImageShard]
    features: np.ndarray  # (n, D), of all shards


class MissingTextError(InputError):
    """Prompts that were never encoded."""


class FeatureStore:
    """The cached features of one data set by one encoder."""

    def __init__(self, spec: DatasetSpec, encoder_folder: Path, call: Call):
        """``call`` is the call that creates missing shards, for messages."""
        self.spec, self.folder, self.call = spec, encoder_folder, call

    def domain(self, *parts: str) -> DomainFeatures:
        """Load and verify every shard of a domain, rows in manifest order.

        Args:
            parts: the domain's name, or one or both of its splits, ``clipart.train`` and ``clipart.test``.
        Raises:
            InputError: unknown domain, or missing shards (names the call that makes them).
            StaleCacheError: damaged shards, shards that do not belong together, another class list, or features as
                another version of this tool wrote them.
        """
        loaded = {part: self._load_part(part) for part in parts}
        shards = [shard for part in loaded.values() for shard in part.shards]
        name = parts[0].partition(".")[0]
        for shard in shards:
            if difference := first_difference(shard.header.encoder(), shards[0].header.encoder()):
                raise _stale_error(f"the splits of {name} were encoded differently", difference, self._renew_hint(name))
        return DomainFeatures(
            name,
            _concatenate([part.features for part in loaded.values()]),
            np.concatenate([part.index.labels for part in loaded.values()]),
            tuple(chain.from_iterable(shard.paths for shard in shards)),
            shards[0].header.encoder(),
            tuple((name, tuple(digest for _, digest in part.index.shards)) for name, part in loaded.items()),
            tuple((name, part.index.labels_digest()) for name, part in loaded.items()),
        )

    def label_changes(self, domain: DomainFeatures) -> str | None:
        """Return a line about labels that were changed since the last extraction of a domain, or None."""
        if domain.encoder.precision == IMPORTED:
            return None
        folder = self.folder / domain.name
        return describe_label_changes(self.spec, domain.name, folder, domain.paths, domain.labels)

    def check_labels(self, domain: DomainFeatures) -> None:
        """Raise StaleCacheError if labels were changed since the last extraction of a domain."""
        if changes := self.label_changes(domain):
            raise StaleCacheError(changes, todo=self._renew_hint(domain.name, force=False))

    def _renew_hint(self, name: str, force: bool = True) -> Text:
        """Return what to do, for messages: the call that writes a part again."""
        return "Run: ", domain_call(self.call, name.partition(".")[0], force=force)

    def _load_part(self, name: str) -> _Part:
        """Load the verified shards of a domain without splits, or of one split."""
        self.spec.domain_of(name)
        folder = self.folder / name
        index = self._read_part_index(name)
        while True:
            paths = [folder / file for file, _ in index.shards]
            try:
                features, shards = _read_shards(paths)
                break
            except (StaleCacheError, ReadError) as error:
                if isinstance(error, ReadError) and not error.absent:
                    raise
                missing = [path.name for path in paths if not path.is_file()]
                current = self._read_part_index(name)
                if current.shards == index.shards:
                    if not missing:
                        raise
                    raise InputError(
                        f"shards of {self.spec.name}/{name} are missing in {folder}",
                        expected=f"all {len(paths)} that {index_path(folder).name} names",
                        got=f"no {join_names(missing, 3)}",
                        todo=self._renew_hint(name, force=False),
                    ) from None
            index = current  # an extraction has just finished and removed superseded shards
        self._check_consistency(name, index, shards)
        return _Part(index, shards, features)

    def _read_part_index(self, name: str) -> DomainIndex:
        """Return a part's index. Raises InputError if there is none, StaleCacheError if it is damaged."""
        folder = self.folder / name
        index = read_index(folder)
        if index is not None:
            return index
        files = shard_files(folder)
        if files:
            try:
                read_header(files[0])
            except SchemaVersionError as error:
                raise StaleCacheError(str(error).partition(". ")[0], todo=self._renew_hint(name)) from None
        raise InputError(
            f"shards of {self.spec.name}/{name} are missing in {folder}",
            expected="all of them",
            got=f"{len(files)} of a domain that is not finished" if files else "none",
            todo=self._renew_hint(name, force=False),
        )

    def _check_consistency(self, name: str, index: DomainIndex, shards: list[ImageShard]) -> None:
        """Check that index, shards and spec fit together. Raises StaleCacheError with the first difference."""
        row, first = 0, shards[0].header
        what = f"stale labels in {index_path(self.folder / name)}"
        for field, got, wanted in (
            ("dataset", index.dataset, self.spec.cache_name),
            ("domain", index.domain, name),
            ("class_names", index.class_names, self.spec.classes),
            ("labels", len(index.labels), sum(len(shard.paths) for shard in shards)),
        ):
            if got != wanted:
                raise _stale_error(what, (field, got, wanted), self._renew_hint(name, force=False))
        for (file, digest), shard in zip(index.shards, shards, strict=True):
            header = shard.header
            checks = [
                ("dataset", header.dataset, self.spec.cache_name),
                ("domain", header.domain, name),
                ("row_start", header.row_start, row),
                first_difference(header.encoder(), first.encoder()) or ("", None, None),
                ("features_digest", header.features_digest, digest),
            ]
            for field, got, wanted in checks:
                if got != wanted:
                    what = f"stale shard {self.folder / name / file}"
                    raise _stale_error(what, (field, got, wanted), self._renew_hint(name))
            row = header.row_stop
        if row != index.row_total:
            raise _stale_error(
                f"stale shards in {self.folder / name}", ("rows", row, index.row_total), self._renew_hint(name)
            )

    def text(self, domain: str, templates: tuple[str, ...], encoder: EncoderIdentity) -> tuple[np.ndarray, str]:
        """Return the (K, D) float32 text features of a domain's prompts, and the shard's digest.

        Raises:
            MissingTextError: these prompts were never encoded by this encoder (names the extract command).
            StaleCacheError: a damaged shard.
        """
        word = self.spec.domain(domain).word
        prompts = tuple(tuple(row) for row in build_prompts(templates, word, self.spec.class_prompts()))
        parts = [getattr(encoder, entry.name) for entry in fields(EncoderIdentity)]
        identity = TextIdentity(*parts, class_names=self.spec.classes, prompts=prompts)
        path = text_path(self.folder, word, identity)
        if not path.is_file():
            options = (
                (Argument("text"), " or ", Argument("text_from"))
                if encoder.precision == IMPORTED
                else (Argument("templates"), " where it is not the default")
            )
            raise MissingTextError(
                f"the prompts of {domain} ({prompts[0][0]!r}, ...) are not in {path.parent}",
                todo=("Run: ", domain_call(self.call, domain, force=False), ", with ", *options),
            )
        shard = read_text_shard(path)
        if fault := text_fault(shard.text_features):
            raise StaleCacheError(f"{path}: the text features {fault}", todo=self._renew_hint(domain))
        if difference := first_difference(shard.header, identity):
            raise _stale_error(f"stale prompts {path}", difference, self._renew_hint(domain))
        return shard.text_features, shard.digest

    def domains_without_prompts(self, templates: tuple[str, ...]) -> list[str]:
        """Return the domains whose prompts by these templates are in no text shard; reads their headers alone."""
        stored = {read_header(path, "text").prompts for path in list_folder(self.folder / "text", "*.h5")}
        classes, domains = self.spec.class_prompts(), self.spec.domains.items()
        prompts = {name: build_prompts(templates, domain.word, classes) for name, domain in domains}
        return [name for name, rows in prompts.items() if tuple(map(tuple, rows)) not in stored]

    def has_text(self, encoder: EncoderIdentity) -> bool:
        """Return False for imported image features without any text features."""
        return encoder.precision != IMPORTED or bool(list_folder(self.folder / "text", "*.h5"))

    def read_logit_scale(self) -> float | None:
        """Return the 1/T that the encoder learned, from its text shards; None if it has none."""
        scales = [read_header(path, "text").logit_scale for path in list_folder(self.folder / "text", "*.h5")]
        return max(scales, default=0.0) or None


def _read_shards(paths: Sequence[Path]) -> tuple[np.ndarray, list[ImageShard]]:
    """Return the verified shards and their (n, D) features as one array, read without a copy.

    Raises:
        StaleCacheError: a damaged shard.
    """
    layouts = [find_features(path) for path in paths]
    dims = {layout and layout[1][1] for layout in layouts}
    with ThreadPoolExecutor(4) as pool:  # computes the digest of one shard while reading the next
        if len(dims) > 1 or None in dims:
            shards = list(pool.map(read_image_shard, paths))
            return np.concatenate([shard.image_features for shard in shards]), shards
        stops = np.cumsum([rows for _, (rows, _) in layouts])
        features = np.empty((stops[-1], *dims), np.float16)
        targets = zip(np.split(features, stops[:-1]), (offset for offset, _ in layouts), strict=True)
        return features, list(pool.map(read_image_shard, paths, targets))


def _concatenate(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate arrays; a single one is returned without a copy."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _stale_error(what: str, difference: tuple[str, object, object], todo: Text) -> StaleCacheError:
    """Return the error for a difference (field, actual, expected); of two lists it names the first different entry."""
    field, got, wanted = difference
    if isinstance(got, tuple) and isinstance(wanted, tuple):
        position = next((at for at, pair in enumerate(zip(got, wanted, strict=False)) if pair[0] != pair[1]), None)
        if position is None:
            position = min(len(got), len(wanted))
        field = f"{field}, number {position + 1}"
        got, wanted = (repr(values[position]) if position < len(values) else "none" for values in (got, wanted))
    else:
        got, wanted = repr(got), repr(wanted)
    return StaleCacheError(f"{what}: {field}", expected=wanted, got=got, todo=todo)
