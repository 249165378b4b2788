"""Specs of data sets (``data_manifests/*.toml``): domains, and class names in the order of their label ids."""

import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from unimos_pipe.base.dataclass_parsing import option, parse_dataclass
from unimos_pipe.base.errors import Argument, InputError, ReadError, join_names, short_repr, suggestions
from unimos_pipe.base.safe_open import MAX_SETTINGS_BYTES, read_text
from unimos_pipe.data.manifest import UNKNOWN_CLASS
from unimos_pipe.data.prompts import clean_class_name

PACKAGE = Path(__file__).parents[1]


SPEC_FOLDERS = (PACKAGE / "data_manifests", PACKAGE.parent / "data_manifests")  # installed wheel, checkout


EMBEDDED = ("icons.zip",)  # archives in data/embedded; a run needs the spec, but not the archive


SPLITS = ("train", "test")


PROTOCOLS = ("inductive", "transductive", "open-set", "open-partial")
OPEN_PROTOCOLS = PROTOCOLS[2:]  # transductive; the target has classes that the source lacks


METRICS = ("accuracy", "per_class_mean")


@dataclass(frozen=True)
class DomainSpec:
    """One domain of a spec. Fields with several names are tried in order."""

    folder: tuple[str, ...] = option((), "folder under the data root; default: the domain's name")
    root: str = option("", "or the folder itself, absolute or relative to the spec file; needs no data root")
    word: str = option("", "the domain's word in the prompt; default: its name")
    labels: str = option("folders", "class folders, or no labels at all", choices=("folders", "none"))
    list: tuple[str, ...] = option((), "list file in the folder, '<path> <label>' a line, instead of class folders")
    train: tuple[str, ...] = option((), "list file of the training split, in the folder")
    test: tuple[str, ...] = option((), "list file of the test split, in the folder")
    search: tuple[str, ...] = option((), "folders in the root that hold the images; default: the root")
    listed_only: bool = option(False, "take the CSV's images only; no folder is searched for others")
    manifest: str = option("", "CSV of path and class, relative to the spec file, instead of class folders")
    images: int = option(0, "expected number of images; 0 = not known", low=0)
    train_images: int = option(0, "expected rows of the training split; 0 = not known", low=0)
    test_images: int = option(0, "expected rows of the test split; 0 = not known", low=0)
    per_class: dict = field(default_factory=dict)  # class name -> expected number of images

    @property
    def has_splits(self) -> bool:
        """True if the data set divides this domain into training and test rows."""
        return bool(self.train)


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
    roots: tuple[str, ...] = option((), "usual names of the data set's own folder, looked for below the data root")
    metric: str = option("accuracy", "the figure published for it", choices=METRICS)
    unknown_classes: tuple[str, ...] = option(
        (), "classes that the source lacks in protocols open-set and open-partial"
    )
    source_only_classes: tuple[str, ...] = option((), "classes that the target lacks in protocol open-partial")
    display: dict = field(default_factory=dict)  # class name -> wording in the prompts
    id: str = option("", "identity of the data beside its name; a scan writes it")
    base: Path = Path()  # the folder of the spec file
    file: Path = Path()  # the spec file

    @property
    def own_file(self) -> str | None:
        """Absolute path of the spec file; None for a data set of the package."""
        of_package = self.file == Path() or self.file.parent in SPEC_FOLDERS
        return None if of_package else str(self.file.absolute())

    @property
    def cache_name(self) -> str:
        """Name of the data set in the cache and in run folders: with its ``id``, if it has one."""
        return f"{self.name}-{self.id}" if self.id else self.name

    @property
    def is_own(self) -> bool:
        """True for a spec of the user's, False for one of the package."""
        return self.base not in SPEC_FOLDERS

    def domain(self, name: str) -> DomainSpec:
        """Return the named domain. Raises InputError listing the known ones."""
        if name not in self.domains:
            raise InputError(f"data set {self.name} has no domain {name!r}; {suggestions(name, self.domains)}")
        return self.domains[name]

    def expected_images(self, domain: str) -> int:
        """Return the published number of a domain's images; 0 if it is not known."""
        entry = self.domain(domain)
        return entry.train_images + entry.test_images if entry.has_splits else entry.images

    def parse_sources(self, text: str, target: str) -> tuple[str, ...]:
        """Return the domains of a source such as ``art`` or ``art+photo`` (multi-source), in the data set's order.

        Raises:
            InputError: an unknown domain, one that is named twice, or the target among them.
        """
        names = text.split("+")
        for name in (*names, target):
            self.domain(name)
        if len(set(names)) < len(names):
            raise InputError(f"source {text!r} names a domain twice")
        if names == [target]:
            raise InputError(f"source and target are both {target!r}; adaptation needs two domains")
        if target in names:
            raise InputError(f"target {target!r} is one of the sources {text!r}; adaptation needs another domain")
        return tuple(name for name in self.domains if name in names)

    def parts(self, domain: str) -> tuple[str, ...]:
        """Return the domain's parts in the cache: ``clipart``, or ``clipart.train`` and ``clipart.test``."""
        return tuple(f"{domain}.{split}" for split in SPLITS) if self.domain(domain).has_splits else (domain,)

    def domain_of(self, part: str) -> str:
        """Return the domain of a part. Raises InputError listing the known parts."""
        domain = part.partition(".")[0]
        if part not in self.parts(domain):
            raise InputError(f"{self.name} has no part {part!r}; {suggestions(part, self.parts(domain))}")
        return domain

    def class_prompts(self) -> tuple[str, ...]:
        """Return the class names for prompts, in label order: from ``display``, else the cleaned name."""
        return tuple(self.display.get(name) or clean_class_name(name) for name in self.classes)

    def protocol(self, requested: str | None = None) -> str:
        """Return the protocol: the chosen one, else inductive if the data set has test splits, else transductive.

        Raises:
            InputError: inductive, but the data set has no splits; or an open one without classes to hide.
        """
        has_splits = all(entry.has_splits for entry in self.domains.values())
        if requested == "inductive" and not has_splits:
            raise InputError(
                (f"{self.name} has no train and test splits, so ", Argument("protocol"), " can only be transductive")
            )
        if requested in OPEN_PROTOCOLS and not self.unknown_classes:
            raise InputError(f"{self.name} names no unknown_classes, so that protocol {requested} has none to hide")
        return requested or ("inductive" if has_splits else "transductive")

    def with_words(self, words: Mapping[str, str]) -> "DatasetSpec":
        """Return a copy with other domain words in the prompts."""
        changed = {name: replace(self.domain(name), word=word) for name, word in words.items()}
        return replace(self, domains={**self.domains, **changed})


def find_spec_files() -> dict[str, Path]:
    """Return the spec files of the package by data-set name."""
    paths = [path for folder in SPEC_FOLDERS if folder.is_dir() for path in sorted(folder.glob("*.toml"))]
    return {path.stem: path for path in reversed(paths)}


def load_spec(name_or_path: str) -> DatasetSpec:
    """Read a data-set spec by the name of a known data set, or from a ``.toml`` file.

    Raises:
        InputError: unknown name (lists the known), unreadable file, or every fault of the spec at once.
    """
    known = find_spec_files()
    path = Path(name_or_path) if name_or_path.endswith(".toml") else known.get(name_or_path)
    if path is None:
        names = suggestions(name_or_path, sorted(known))
        raise InputError(f"unknown data set {name_or_path!r}; {names}; or give the path of a .toml file")
    try:
        values = tomllib.loads(read_text(path, MAX_SETTINGS_BYTES))
    except ReadError as error:
        raise error.of_input(f"data-set spec {path}: cannot be read: {error.reason}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"data-set spec {path}: cannot be read: {error}") from None
    return check_spec(values, path)


def check_spec(values: Mapping, path: Path) -> DatasetSpec:
    """Return the spec of plain values read from ``path``. Raises InputError with all faults at once."""
    domains = values.get("domains")
    if not isinstance(domains, Mapping) or not domains:
        raise InputError(f"{path}: expected a [domains] table with at least one domain")
    faults, domain_specs = [], {}
    for name, entry in domains.items():
        try:
            if not isinstance(entry, Mapping):
                raise InputError(f"expected a table, got {short_repr(entry)}")
            domain = parse_dataclass(DomainSpec, entry, f"domains.{name}")
        except InputError as error:
            faults.append(str(error))
            continue
        domain_specs[name] = replace(
            domain, folder=domain.folder or (name,), word=domain.word or name.replace("_", " ")
        )
        faults += _check_domain(name, domain)
    try:
        own_values = {"domains": domain_specs, "base": path.parent, "file": path}
        spec = parse_dataclass(DatasetSpec, {**values, **own_values}, str(path))
    except InputError as error:
        raise InputError("; ".join([str(error), *faults])) from None
    faults += _check_classes(spec)
    if faults:
        raise InputError(f"{path}: " + "; ".join(faults))
    return spec


def is_valid_name(text: str) -> bool:
    """Return True for a valid name of a data set or domain: letters, digits, '-' and '_' only."""
    return text.replace("_", "").replace("-", "").isalnum()


def _check_domain(name: str, domain: DomainSpec) -> list[str]:
    faults = []
    if name == "text" or not is_valid_name(name):
        faults.append(f"domain {name!r}: a name is letters, digits, '-' and '_', and not 'text'")
    inside = (*domain.folder, *domain.list, *domain.train, *domain.test, *domain.search)
    if any(Path(part).is_absolute() or ".." in Path(part).parts for part in inside):
        faults.append(f"domain {name!r}: its folder or list leaves the data root")
    if bool(domain.train) != bool(domain.test):
        faults.append(f"domain {name!r}: train and test go together")
    ways = {"list": domain.list, "train": domain.train, "manifest": domain.manifest, "labels": domain.labels == "none"}
    if (domain.search or domain.listed_only) and not domain.manifest:
        faults.append(f"domain {name!r}: search and listed_only need a manifest")
    if len(given := [way for way, value in ways.items() if value]) > 1:
        faults.append(f"domain {name!r}: {' and '.join(given)} exclude each other")
    return faults


def _check_classes(spec: DatasetSpec) -> list[str]:
    faults = []
    if not is_valid_name(spec.name):
        faults.append(f"name {spec.name!r}: letters, digits, '-' and '_' only")
    if spec.id and not is_valid_name(spec.id):
        faults.append(f"id {spec.id!r}: letters, digits, '-' and '_' only")
    if spec.embedded and spec.embedded not in EMBEDDED:
        faults.append(f"embedded {short_repr(spec.embedded)}: the package has {join_names(EMBEDDED)}")
    if repeated := [name for name, count in Counter(spec.classes).items() if count > 1]:
        faults.append(f"classes named twice: {join_names(repeated)}")
    if not all(name.strip() for name in spec.classes):
        faults.append("a class without a name")
    if UNKNOWN_CLASS in spec.classes:
        faults.append(f"class {UNKNOWN_CLASS!r}: this name stands for images of none of the classes")
    if len(spec.classes) < 2:
        faults.append("at least 2 classes are needed")
    for key in ("unknown_classes", "source_only_classes"):
        faults += [f"{key}: no class {name!r}" for name in getattr(spec, key) if name not in spec.classes]
    if twice := sorted({*spec.unknown_classes} & {*spec.source_only_classes}):
        faults.append(f"classes in unknown_classes and source_only_classes: {join_names(twice)}")
    if spec.unknown_classes and len({*spec.classes} - {*spec.unknown_classes}) < 2:
        faults.append("unknown_classes: at least 2 other classes are needed")
    for name, wording in spec.display.items():
        if name not in spec.classes:
            faults.append(f"display: no class {name!r}")
        elif not isinstance(wording, str) or not wording.strip():
            faults.append(f"display.{name}: expected a text, got {short_repr(wording)}")
    if not faults:
        same = [wording for wording, count in Counter(spec.class_prompts()).items() if count > 1]
        faults += [f"classes with the same wording in prompts: {join_names(same)}"] if same else []
    for name, domain in spec.domains.items():
        for key, count in domain.per_class.items():
            if key not in spec.classes:
                faults.append(f"domains.{name}.per_class: no class {key!r}")
            elif not isinstance(count, int) or isinstance(count, bool) or not 0 <= count < 2**63:
                faults.append(f"domains.{name}.per_class.{key}: expected a count, got {short_repr(count)}")
    return faults
