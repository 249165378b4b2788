"""Specs of data sets that have features only: create one from class names, or add a domain."""

import tomllib
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from unimos_pipe.base.atomic_io import write_text
from unimos_pipe.base.errors import Argument, InputError, short_repr
from unimos_pipe.base.safe_open import MAX_SETTINGS_BYTES, read_text
from unimos_pipe.data.custom_dataset import domain_text, spec_text
from unimos_pipe.data.dataset_spec import DatasetSpec, check_spec, load_spec
from unimos_pipe.data.row_lists import read_list_text

FIRST_LINE = "# A data set of features made elsewhere, for unimos-pipe. Label ids follow the order of `classes`."


@dataclass(frozen=True)
class SpecEdit:
    """A spec, and the new text of its file; None if the file does not change."""

    spec: DatasetSpec
    file: Path | None = None
    text: str | None = None

    def write(self) -> None:
        """Write the file if it changes."""
        if self.text is not None:
            write_text(self.file, self.text)


def read_classes(file: Path) -> tuple[str, ...]:
    """Return class names, one per line in label order; empty lines are ignored. Raises InputError."""
    return tuple(line.strip() for line in read_list_text(file).splitlines() if line.strip())


def add_domain(dataset: str, domain: str, classes: Path, images: int = 0) -> SpecEdit:
    """Return the edit that gives a data set a domain: a new spec, an added domain, or no change.

    Args:
        dataset: the spec's file, created if missing; or a known data set, which is not changed.
        classes: a file of class names (:func:`read_classes`), equal to those of an existing data set.
        images: the new domain's expected number of rows.
    Raises:
        InputError: other classes than the spec has, or a spec that cannot have this domain.
    """
    names, file = read_classes(classes), Path(dataset)
    entry = {"word": domain.replace("_", " "), "images": images}
    if not dataset.endswith(".toml") or file.exists():
        spec = load_spec(dataset)
        if names != spec.classes:
            index = next(at for at, pair in enumerate(zip_longest(spec.classes, names)) if pair[0] != pair[1])
            expected, got = (short_repr(row[index]) if index < len(row) else "none" for row in (spec.classes, names))
            what = (Argument("classes"), f" {classes} does not have the classes of {spec.name}: number {index + 1}")
            raise InputError(what, expected=expected, got=got)
        domain_name = domain.partition(".")[0]
        if not dataset.endswith(".toml") or domain_name in spec.domains:
            return SpecEdit(spec)
        old_text = read_text(file, MAX_SETTINGS_BYTES)
        text = old_text + ("" if old_text.endswith("\n") else "\n") + domain_text(domain, entry)
    else:
        values = {"name": file.stem, "classes": names, "domains": {domain: entry}}
        check_spec(values, file)
        text = spec_text(values, FIRST_LINE)
    try:
        return SpecEdit(check_spec(tomllib.loads(text), file), file, text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(
            f"{file}: [domains.{domain}] cannot stand at its end ({error}); add the domain by hand"
        ) from None
