"""Class folders that may be no classes: by name, such as ``unsorted``, or without an image."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from unimos_pipe.base.errors import Argument, InputError, join_names, suggestions
from unimos_pipe.data.domain_folders import list_class_folders, name_key
from unimos_pipe.data.row_lists import ManifestRow

DOUBTFUL_NAMES = frozenset({  # as unimos_pipe.data.domain_folders.name_key writes them
    "unsorted", "unknown", "unlabeled", "unlabelled", "misc", "miscellaneous", "other", "others", "rest", "todo",
    "inbox", "new", "tmp", "temp", "trash", "newfolder", "untitledfolder", "none", "unsortiert", "unbekannt",
    "sonstige", "sonstiges", "andere", "verschiedenes", "divers",
})  # fmt: skip


def class_folder(path: str, search: Sequence[str] = ()) -> str:
    """Return the class folder of an image's path; '' for an image outside of class folders.

    Args:
        search: the folders of a domain that hold class folders; empty for the domain's own.
    """
    for part in search:
        if path.startswith(f"{part}/"):
            path = path[len(part) + 1 :]
            break
    return path.partition("/")[0] if "/" in path else ""


def check_class_folders(domain: str, folder: Path, rows: Sequence[ManifestRow], named: Sequence[str]) -> None:
    """Check that each class folder of a domain is a class beyond doubt, or named.

    Args:
        rows: the images in class folders, with these as labels.
        named: folders that somebody has decided on.
    Raises:
        InputError: folders with a name of :data:`DOUBTFUL_NAMES`, or without an image.
    """
    counts = Counter(row.label for row in rows)
    doubtful = [
        f"{name} ({counts[name]} images)"
        for name in list_class_folders(folder)
        if name not in named and (name_key(name) in DOUBTFUL_NAMES or not counts[name])
    ]
    if doubtful and rows:
        raise InputError(
            f"domain {domain}: {folder} holds folders that may be no classes: {join_names(doubtful)}",
            todo=(
                "Say of each whether it is a class, with ",
                Argument("keep_folders", "NAME"),
                ", or is left out, with ",
                Argument("skip_folders", "NAME"),
            ),
        )


def check_named_folders(folders: Sequence[Path], names: Sequence[str]) -> None:
    """Raise InputError for a name that no domain has as a class folder."""
    for name in names:
        if not any((folder / name).is_dir() for folder in folders):
            known = [child for folder in folders for child in list_class_folders(folder)]
            raise InputError(f"no class folder {name}; {suggestions(name, known)}")
