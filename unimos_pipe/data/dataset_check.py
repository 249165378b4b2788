"""Checks of all files of a data set."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import xxhash

from unimos_pipe.base.errors import InputError, ReadError
from unimos_pipe.base.safe_open import DEFAULT_MAX_PIXELS, MAX_IMAGE_BYTES, open_regular
from unimos_pipe.base.time_limit import time_limit
from unimos_pipe.data.build_manifest import (
    RowList,
    compare_counts,
    file_size,
    find_domain_folder,
    find_non_utf8_names,
    read_part,
    unlisted_images,
)
from unimos_pipe.data.class_names import domains_apart, match_class_names, plural_pairs
from unimos_pipe.data.dataset_spec import DatasetSpec
from unimos_pipe.data.find_images import find_domain_images, skipped_summary
from unimos_pipe.data.grey_range import GUESSED
from unimos_pipe.data.image_decoding import DECODE_SECONDS, UNIFORM_SPREAD, decode, describe_error
from unimos_pipe.data.manifest import NO_LABEL

COUNTS_DIFFER = "counts differ from the published ones"


@dataclass(frozen=True)
class Finding:
    """A kind of problem and its places. ``serious``: extraction would fail, or rows would be meaningless."""

    kind: str
    serious: bool
    places: tuple[str, ...]


@dataclass(frozen=True)
class ImageFile:
    """The file of a row, printed as ``domain/path``; of a split, whose list names paths below the root, as it is."""

    part: str
    path: str  # relative to the folder
    full_path: Path
    label: str = ""  # class; empty without one

    def __str__(self) -> str:
        return self.path if "." in self.part else f"{self.part}/{self.path}"


@dataclass(frozen=True)
class DatasetFiles:
    """Files of a data set, and findings before any image is opened."""

    rows: int
    files: tuple[ImageFile, ...]  # those that can be opened
    findings: tuple[Finding, ...]


def collect_files(spec: DatasetSpec, root: Path) -> DatasetFiles:
    """Read the folders or lists of all domains and check that their files exist.

    Raises:
        InputError: a domain's folder is missing.
    """
    places: dict[tuple[str, bool], list[str]] = defaultdict(list)
    files: list[ImageFile] = []
    parts: dict[str, RowList] = {}
    for domain in spec.domains:
        folder = find_domain_folder(spec, domain, root)
        try:
            domain_parts = {part: read_part(spec, part, folder) for part in spec.parts(domain)}
        except InputError as error:
            places["rows cannot be read", True].append(str(error))
            continue
        parts |= domain_parts
        for part, rows in domain_parts.items():
            absent: list[str] = []
            places["note", False] += rows.notes
            if difference := compare_counts(spec, part, rows.labels):
                places[COUNTS_DIFFER, False].append(difference)
            for path, label in zip(rows.paths, rows.labels, strict=True):
                if bad := find_non_utf8_names([path]):
                    places["name is not UTF-8", True].append(f"{part}/{bad[0]!r}")
                elif file_size(folder / path) is None:
                    absent.append(str(ImageFile(part, path, folder / path)))
                else:
                    name = "" if label == NO_LABEL else spec.classes[label]
                    files.append(ImageFile(part, path, folder / path, name))
            if absent:  # of own data, those that are left are enough
                serious = not spec.is_own or len(absent) == len(rows.paths)
                places["missing, a broken link, or no file", serious] += absent
        entry = spec.domain(domain)
        if entry.manifest:
            scan = find_domain_images(folder, entry.search, listed_only=entry.listed_only)
            extra = unlisted_images(scan.paths, parts[domain].paths)
            places["image not in the manifest", False] += [f"{domain}/{path}" for path in extra]
            places["note", False] += [note] if (note := skipped_summary(folder, scan.skipped)) else []
    _check_classes(spec, parts, places)
    return DatasetFiles(sum(len(rows.paths) for rows in parts.values()), tuple(files), _to_findings(places))


def inspect_files(
    files: Sequence[ImageFile],
    threads: int = 4,
    on_files: Callable[[int], None] = lambda count: None,
    *,
    skip_bad: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> tuple[Finding, ...]:
    """Decode every file; return findings about unreadable and uniform images, guessed ranges, and equal contents.

    Args:
        max_pixels: larger images are unreadable.
        skip_bad: unreadable images are skipped by the extraction, unless all of a part are.
        threads: number of images decoded concurrently.
        on_files: called with the number of files just checked.
    """
    places: dict[tuple[str, bool], list[str]] = defaultdict(list)
    total, unreadable = Counter(file.part for file in files), defaultdict(list)
    with ThreadPoolExecutor(threads) as pool:
        look = partial(_look_at_image, max_pixels=max_pixels)
        for file, (fault, uniform, guessed) in zip(files, pool.map(look, files), strict=True):
            on_files(1)
            if fault:
                unreadable[file.part].append(f"{file} ({fault})")
            if uniform:
                places["image without contrast", False].append(str(file))
            if guessed:
                places["grey values scaled by percentiles", False].append(f"{file} ({guessed})")
    for part, images in unreadable.items():
        places["unreadable image", not skip_bad or len(images) == total[part]] += images
    for group in find_equal_files(files):
        classes = {file.label for file in group if file.label}
        if len(classes) > 1:
            named = (f"{file} ({file.label})" if file.label else str(file) for file in group)
            places["same contents in two classes", False].append(" = ".join(named))
        else:
            places["same contents", False].append(" = ".join(str(file) for file in group))
    return _to_findings(places)


def _to_findings(places_by_kind: dict[tuple[str, bool], list[str]]) -> tuple[Finding, ...]:
    return tuple(Finding(kind, serious, tuple(places)) for (kind, serious), places in places_by_kind.items() if places)


def _check_classes(spec: DatasetSpec, parts: dict[str, RowList], places: dict) -> None:
    """Add classes without an image, and classes absent in a labelled domain."""
    present: dict[str, set[int]] = defaultdict(set)
    for part, rows in parts.items():
        present[part.partition(".")[0]] |= set(rows.labels) - {NO_LABEL}
    present = {domain: labels for domain, labels in present.items() if labels}
    _check_class_names(
        {domain: {spec.classes[label] for label in labels} for domain, labels in present.items()}, places
    )
    anywhere = set().union(*present.values())
    for label, name in enumerate(spec.classes):
        if label not in anywhere:
            places["class without an image", False].append(name)
        else:
            lacking = [domain for domain, labels in present.items() if label not in labels]
            places["class absent in a domain", False] += [f"{name} in {domain}" for domain in lacking]


def _check_class_names(names: Mapping[str, set[str]], places: dict) -> None:
    """Add classes that may be one, by the names in each labelled domain, and domains without a common class."""
    for (domain, present), (other, others) in combinations(names.items(), 2):
        spelled = match_class_names(others - present, sorted(present - others))
        places["one class in two spellings", True] += [
            f"{match} in {domain} = {name} in {other}" for name, match in sorted(spelled.items())
        ]
    places["class names that differ by a plural", False] += plural_pairs(names)
    places["no class in common with another domain", True] += [*domains_apart(names)]


class _ImageState(NamedTuple):
    """Reason why an image is unreadable, whether it has no contrast, and its range of grey values if guessed."""

    fault: str | None = None
    uniform: bool = False
    guessed: str | None = None


def _look_at_image(file: ImageFile, max_pixels: int) -> _ImageState:
    try:
        with time_limit(DECODE_SECONDS, f"not decoded after {DECODE_SECONDS} s"):
            image = decode(file.full_path, max_pixels)
            uniform = all(high - low < UNIFORM_SPREAD for low, high in image.getextrema())
            return _ImageState(None, uniform, image.info.get(GUESSED))
    except MemoryError:
        raise
    except Exception as error:  # decoders raise many types; each becomes a finding
        if isinstance(error, ReadError) and not error.lasting:
            raise
        return _ImageState(describe_error(error, file.full_path))


def find_equal_files(files: Sequence[ImageFile]) -> list[list[ImageFile]]:
    """Return groups of files with equal bytes; only files of equal size are read."""
    by_size = defaultdict(list)
    for file in files:
        by_size[file_size(file.full_path)].append(file)
    groups = defaultdict(list)
    for size, group in by_size.items():
        for file in group if len(group) > 1 else ():
            with open_regular(file.full_path, MAX_IMAGE_BYTES) as stream:
                groups[size, hashlib.file_digest(stream, xxhash.xxh3_128).digest()].append(file)
    return [group for group in groups.values() if len(group) > 1]
