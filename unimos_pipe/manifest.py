"""Which images a domain holds, in which order, under which labels: data-set specs, folder scans and their digest.

A spec (``data_manifests/*.toml``) binds class names to label ids; a manifest is one domain's rows as found on disk.
"""

import hashlib
import json
import os
import tomllib
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unimos_pipe.config import build, option
from unimos_pipe.errors import UserError, listing
from unimos_pipe.files import replace_folder

PACKAGE = Path(__file__).parent
SPEC_FOLDERS = (PACKAGE / "data_manifests", PACKAGE.parent / "data_manifests")  # installed wheel, checkout
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm"}
NO_LABEL = -1


@dataclass(frozen=True)
class DomainSpec:
    """One domain of a data set, as its spec writes it."""

    folder: tuple[str, ...] = option((), "folder under the data root; several names are tried in order")
    word: str = option("", "the domain's word in the prompt")
    images: int = option(0, "expected number of images; 0 = not known", low=0)
    labels: str = option("folders", "class folders, or no labels at all", choices=("folders", "none"))


@dataclass(frozen=True)
class DatasetSpec:
    """A data set: its domains, and its class names in label order."""

    name: str
    classes: tuple[str, ...]
    domains: dict
    title: str = ""
    source: str = ""
    terms: str = ""
    encoder: str = "RN50"
    embedded: str = ""

    def domain(self, name: str) -> DomainSpec:
        """The named domain. Raises UserError listing the known ones."""
        if name not in self.domains:
            raise UserError(f"data set {self.name} has no domain {name!r}; known: {listing(self.domains, 20)}")
        return self.domains[name]


@dataclass(frozen=True)
class Manifest:
    """The rows of one domain: row i is image ``paths[i]`` (POSIX, relative to ``root``) with ``labels[i]``.

    ``labels`` is (n,) int64, -1 where there is none; ``sizes`` (n,) int64 in bytes.
    """

    dataset: str
    domain: str
    classes: tuple[str, ...]
    root: Path
    paths: tuple[str, ...]
    labels: np.ndarray = field(repr=False)
    sizes: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    def digest(self) -> str:
        """sha256 over class names, and path, label and file size of every row; the root does not enter."""
        rows = zip(self.paths, self.labels.tolist(), self.sizes.tolist(), strict=True)
        content = [self.dataset, self.domain, self.classes, list(rows)]
        return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


def known_datasets() -> dict[str, Path]:
    """The data sets that come with the package, by name."""
    found = [path for folder in SPEC_FOLDERS if folder.is_dir() for path in sorted(folder.glob("*.toml"))]
    return {path.stem: path for path in reversed(found)}


def load_spec(name_or_path: str) -> DatasetSpec:
    """Read a data-set spec by the name of a known data set, or from a ``.toml`` file.

    Raises:
        UserError: unknown name (lists the known), unreadable file, or every fault of the spec at once.
    """
    known = known_datasets()
    path = Path(name_or_path) if name_or_path.endswith(".toml") else known.get(name_or_path)
    if path is None:
        raise UserError(
            f"unknown data set {name_or_path!r}; known: {listing(sorted(known), 20)}; or give the path of a .toml file"
        )
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"data-set spec {path}: cannot be read: {error}") from None
    return _check_spec(values, str(path))


def _check_spec(values: Mapping, where: str) -> DatasetSpec:
    domains = values.get("domains")
    if not isinstance(domains, Mapping) or not domains:
        raise UserError(f"{where}: expected a [domains] table with at least one domain")
    faults = []
    built = {}
    for name, entry in domains.items():
        try:
            if not isinstance(entry, Mapping):
                raise UserError(f"expected a table, got {entry!r}")
            domain = build(DomainSpec, entry, f"domains.{name}")
        except UserError as error:
            faults.append(str(error))
            continue
        built[name] = DomainSpec(
            domain.folder or (name,), domain.word or name.replace("_", " "), domain.images, domain.labels
        )
        if name == "text" or not name.replace("_", "").replace("-", "").isalnum():
            faults.append(f"domain {name!r}: a name is letters, digits, '-' and '_', and not 'text'")
        if any(Path(folder).is_absolute() or ".." in Path(folder).parts for folder in built[name].folder):
            faults.append(f"domain {name!r}: its folder leaves the data root")
    try:
        spec = build(DatasetSpec, {**values, "domains": built}, where)
    except UserError as error:
        raise UserError("; ".join([str(error), *faults])) from None
    repeated = [name for name, count in Counter(spec.classes).items() if count > 1]
    if repeated:
        faults.append(f"classes named twice: {listing(repeated)}")
    if len(spec.classes) < 2:
        faults.append("at least 2 classes are needed")
    if faults:
        raise UserError(f"{where}: " + "; ".join(faults))
    return spec


def find_root(spec: DatasetSpec, root: Path | None, cache: Path) -> Path:
    """Where a data set's images are: the given root, or the embedded images unpacked to the cache.

    Raises:
        UserError: no root for a data set that is not embedded, or no such folder; shows the layout expected.
    """
    if root is None and spec.embedded:
        return unpack_embedded(spec.embedded, cache)
    if root is None or not root.is_dir():
        found = "no --data-root" if root is None else f"no folder {root}"
        raise UserError(
            f"the images of {spec.name} are missing",
            expected=_layout(spec),
            got=found,
            todo=f"Get them from {spec.source or 'their owner'} and pass --data-root",
        )
    return root


def _layout(spec: DatasetSpec) -> str:
    folders = ", ".join(domain.folder[0] for domain in spec.domains.values())
    return f"a folder that holds {folders}, each with <class>/<image>, such as {_example(spec)}"


def _example(spec: DatasetSpec) -> str:
    return f"ROOT/{next(iter(spec.domains.values())).folder[0]}/{spec.classes[0]}/1.jpg"


def unpack_embedded(archive: str, cache: Path) -> Path:
    """Unpack one of the package's archives into the cache, once, and return its folder.

    What is already there is trusted only if every file has its recorded size.
    """
    source = PACKAGE / "embedded" / archive
    with zipfile.ZipFile(source) as bundle:
        members = bundle.infolist()
        stamp = hashlib.sha256(repr([(m.filename, m.file_size, m.CRC) for m in members]).encode()).hexdigest()[:8]
        target = cache / "embedded" / f"{source.stem}-{stamp}"
        if not all(_has_size(target / member.filename, member.file_size) for member in members):
            with replace_folder(target) as fresh:
                bundle.extractall(fresh)
    return target


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def scan(spec: DatasetSpec, domain: str, root: Path) -> Manifest:
    """Find a domain's images below a data root, in sorted order, and bind class folders to label ids by name.

    Raises:
        UserError: no domain folder, class folders that the spec does not know, or names that are not UTF-8.
    """
    entry = spec.domain(domain)
    candidates = [root / folder for folder in entry.folder]
    folder = next((path for path in candidates if path.is_dir()), None)
    if folder is None:
        found = listing(sorted(child.name for child in root.iterdir() if child.is_dir()))
        raise UserError(
            f"domain {domain} of {spec.name} is not in {root}",
            expected=_layout(spec),
            got=f"folders: {found}",
            todo="Pass the right --data-root",
        )
    if entry.labels == "none":
        paths = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if _is_image(path)]
        labels = [NO_LABEL] * len(paths)
    else:
        paths, labels = _scan_classes(spec, folder)
    if not paths:
        raise UserError(f"no images in {folder}", expected=_example(spec), got="no image file")
    try:
        "".join(paths).encode()
    except UnicodeEncodeError:
        bad = [os.fsencode(path) for path in paths if not path.isprintable()]
        raise UserError(f"{folder}: file names that are not UTF-8: {listing(bad, 3)}; rename them") from None
    sizes = [(folder / path).stat().st_size for path in paths]
    return Manifest(
        spec.name, domain, spec.classes, folder, tuple(paths), np.array(labels, np.int64), np.array(sizes, np.int64)
    )


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _scan_classes(spec: DatasetSpec, folder: Path) -> tuple[list[str], list[int]]:
    found = sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    ids = {name: label for label, name in enumerate(spec.classes)}
    if unknown := [name for name in found if name not in ids]:
        missing = [name for name in spec.classes if name not in found]
        raise UserError(
            f"the class folders in {folder} do not fit {spec.name}: unknown {listing(unknown)}; "
            f"without a folder: {listing(missing)}. Correct the folders or the spec's class list"
        )
    rows = [
        (f"{name}/{path.name}", ids[name])
        for name in found
        for path in sorted((folder / name).iterdir())
        if _is_image(path)
    ]
    return [path for path, _ in rows], [label for _, label in rows]


def count_warning(spec: DatasetSpec, manifest: Manifest) -> str | None:
    """One line saying by how much a domain's number of images differs from the published one, or None."""
    expected = spec.domain(manifest.domain).images
    if not expected or expected == len(manifest):
        return None
    return f"{spec.name}/{manifest.domain}: {len(manifest)} images, the published data set has {expected}"
