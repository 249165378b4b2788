"""Operations on data sets: list those of the package, create a spec for new images, check all files."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unimos_pipe.base.errors import Argument, InputError
from unimos_pipe.base.progress import NO_PROGRESS, ProgressReporter
from unimos_pipe.base.safe_open import DEFAULT_MAX_PIXELS
from unimos_pipe.data.build_manifest import find_root
from unimos_pipe.data.custom_dataset import write_dataset
from unimos_pipe.data.custom_domain import CustomDomain
from unimos_pipe.data.dataset_check import COUNTS_DIFFER, Finding, collect_files, inspect_files
from unimos_pipe.data.dataset_spec import DatasetSpec, find_spec_files, load_spec
from unimos_pipe.data.update_dataset import DatasetUpdate, update_dataset


def list_datasets() -> dict[str, DatasetSpec]:
    """Return the data sets of the package by name."""
    return {name: load_spec(name) for name in sorted(find_spec_files())}


def create_dataset_spec(
    domains: Sequence[str],
    out: str | Path,
    *,
    name: str | None = None,
    encoder: str = "RN50",
    force: bool = False,
    keep_folders: Sequence[str] = (),
    skip_folders: Sequence[str] = (),
    allow_outside: bool = False,
    reporter: ProgressReporter = NO_PROGRESS,
) -> DatasetSpec:
    """Write a spec for folders of images: ``out`` (TOML), and a CSV of paths and classes per domain in its folder.

    A record of the images' digests, ``<stem of out>.scan.json``, lets :func:`update_dataset_spec` recognise them.

    Args:
        domains: ``NAME=DIR``, ``NAME=DIR:none`` without labels, or ``NAME=DIR:FILE.csv``; several folders of one name
            are one domain.
        name: of the data set; None takes the file's.
        encoder: a preset's name.
        force: replace a spec that exists and was not edited.
        keep_folders: class folders that are classes though their name, such as ``misc``, or their lack of images
            suggests otherwise.
        skip_folders: class folders to leave out.
        allow_outside: whether a CSV may list images outside its folder, by their absolute paths.
    Raises:
        InputError: folders or lists that cannot be read, no labelled domain, an existing spec without ``force`` or with
            edits, or class folders that may be no classes and are neither kept nor skipped.
    """
    out = Path(out)
    if out.suffix != ".toml":
        raise InputError((Argument("out"), f" {out}"), expected="a name that ends in .toml", got=out.name)
    spec, notes = write_dataset(
        out,
        name or out.stem,
        encoder,
        [CustomDomain.parse(text) for text in domains],
        force=force,
        keep_folders=keep_folders,
        skip_folders=skip_folders,
        allow_outside=allow_outside,
    )
    for note in notes:
        reporter.warn(note)
    return spec


def update_dataset_spec(
    file: str | Path, *, keep_folders: Sequence[str] = (), skip_folders: Sequence[str] = ()
) -> DatasetUpdate:
    """Take new, moved, changed and deleted images into a spec of one's own and its CSVs.

    Images are recognised by their contents. Labels, class order, wordings and comments are kept; a class folder that is
    new becomes a class at the end. The files as they were are copied to ``<stem of file>.backup/<time>`` first.

    Args:
        keep_folders, skip_folders: as :func:`create_dataset_spec` has them.
    Raises:
        InputError: a spec that cannot be read or names no CSV, labels that are no classes, a missing or empty folder,
            or class folders that may be no classes and are neither kept nor skipped. No file changes.
    """
    return update_dataset(Path(file), keep_folders=keep_folders, skip_folders=skip_folders)


@dataclass(frozen=True)
class DatasetCheck:
    """Result of :func:`check_dataset`: number of rows, and findings with the serious ones first."""

    dataset: DatasetSpec
    rows: int
    findings: tuple[Finding, ...]

    @property
    def faults(self) -> int:
        """Number of places with a serious finding."""
        return sum(len(finding.places) for finding in self.findings if finding.serious)

    @property
    def verdict(self) -> str:
        """The rows in one line: whether their number is the published one, and whether anything is to report."""
        verdict = f"{'nothing serious' if self.findings else 'nothing'} to report"
        if any(finding.kind == COUNTS_DIFFER for finding in self.findings):
            verdict = f"{COUNTS_DIFFER}, nothing more serious to report"
            expected = [self.dataset.expected_images(domain) for domain in self.dataset.domains]
            if all(expected):
                return f"{self.dataset.name}: {self.rows:,} rows of {sum(expected):,}: {verdict}"
        return f"{self.dataset.name}: {self.rows} rows, {verdict}"


def check_dataset(
    dataset: str,
    root: Path | None,
    cache: Path,
    *,
    domains: Sequence[str] = (),
    max_pixels: int = DEFAULT_MAX_PIXELS,
    reporter: ProgressReporter = NO_PROGRESS,
) -> DatasetCheck:
    """Check every image of a data set.

    Args:
        dataset: a known data set's name, or the path of a spec file.
        root: folder that holds the domains' folders; embedded data needs none.
        cache: where embedded images are unpacked.
        domains: those to check; empty checks all.
        max_pixels: larger images are unreadable.
    Raises:
        InputError: an unknown data set or domain, or a missing folder.
    """
    spec = load_spec(dataset)
    spec = replace(spec, domains={name: spec.domain(name) for name in domains or spec.domains})
    files = collect_files(spec, find_root(spec, root, cache))
    with reporter.progress(f"checking {spec.name}", len(files.files), "images") as advance:
        looks = inspect_files(files.files, on_files=advance, skip_bad=spec.is_own, max_pixels=max_pixels)
    findings = [*files.findings, *looks]
    return DatasetCheck(spec, files.rows, tuple(sorted(findings, key=lambda finding: not finding.serious)))
