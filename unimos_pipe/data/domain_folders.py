"""Domain folders, list files and class folders of a data root, by the names that releases and repositories give them.

Names are compared without regard to case, spaces, '-' and '_'.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from unimos_pipe.base.errors import Argument, InputError, join_names
from unimos_pipe.base.safe_open import MAX_TEXT_BYTES, open_regular
from unimos_pipe.data.class_names import match_class_names
from unimos_pipe.data.dataset_spec import DatasetSpec, DomainSpec
from unimos_pipe.data.expected_layout import expected_layout
from unimos_pipe.data.find_images import is_skipped_folder

LISTED = 6  # entries of a folder that a message lists
HEAD_BYTES = 1 << 16  # of a list, in which its first line ends


def name_key(name: str) -> str:
    """Return what two spellings of a folder's name have in common: ``realworld`` of ``Real World``."""
    return name.casefold().replace(" ", "").replace("_", "").replace("-", "")


def list_class_folders(folder: Path) -> list[str]:
    """Return the names of subfolders, sorted, without skipped ones."""
    return sorted(child.name for child in folder.iterdir() if child.is_dir() and not is_skipped_folder(child.name))


def find_domain_folder(spec: DatasetSpec, name: str, root: Path) -> Path:
    """Return the folder that a domain's paths are relative to: the first of its names that exists.

    Of several folders with the domain's lists, the one where the first listed image is. Where no list exists, a
    folder of class folders will do, unless the list defines splits.

    Raises:
        InputError: none exists; the message lists the contents of the data root.
    """
    entry = spec.domain(name)
    if entry.root:
        folder = spec.base / entry.root
        if not folder.is_dir():
            raise InputError(f"domain {name} of {spec.name}: no folder {folder}; correct its root in the spec")
        return folder
    folders = list(dict.fromkeys(_candidates(spec, entry, root)))
    lists = [files for files in (entry.list, entry.train, entry.test) if files]
    with_lists = [folder for folder in folders if all(find_list(folder, files) for files in lists)]
    if with_lists:
        return next((folder for folder in with_lists if _has_first_image(folder, lists)), with_lists[0])
    if entry.list:
        for folder in folders:
            if match_class_names(list_class_folders(folder), spec.classes):
                return folder
    raise InputError(
        f"domain {name} of {spec.name} is not in {root}",
        expected=expected_layout(spec),
        got=f"in {root}: {describe_contents(root)}",
        todo=("Pass the right ", Argument("root")),
    )


def _candidates(spec: DatasetSpec, entry: DomainSpec, root: Path) -> Iterator[Path]:
    """Yield the existing folders that a domain may lie in, the most likely first."""
    aliases = {name_key(alias) for alias in spec.roots}
    nested = [child for child in sorted(root.iterdir()) if child.is_dir() and name_key(child.name) in aliases]
    for base in (root, *nested):
        for part in entry.folder:
            if (base / part).is_dir():
                yield base / part
        keys = {name_key(part) for part in entry.folder if "/" not in part and part != "."}
        yield from (child for child in sorted(base.iterdir()) if child.is_dir() and name_key(child.name) in keys)


def find_list(folder: Path, names: Sequence[str]) -> Path | None:
    """Return the first of several list files in a folder, or in the one above it, where repositories keep lists."""
    places = [folder / name for name in names] + [folder.parent / name for name in names]
    return next((place for place in places if place.is_file()), None)


def _has_first_image(folder: Path, lists: Sequence[Sequence[str]]) -> bool:
    """Return whether the first image of the first list is below the folder."""
    file = find_list(folder, lists[0]) if lists else None
    if file is None:
        return not lists
    with open_regular(file, MAX_TEXT_BYTES) as stream:
        head = stream.read(HEAD_BYTES).decode("utf-8", "replace")
    first = next((line for line in head.splitlines() if line.strip()), "")
    return (folder / first.rsplit(maxsplit=1)[0]).is_file() if first else False


def describe_contents(folder: Path) -> str:
    """Return the names in a folder, and in each of its first folders, for a message."""
    names = []
    for child in sorted(folder.iterdir())[: 2 * LISTED]:
        inside = sorted(item.name for item in child.iterdir())[: LISTED + 1] if child.is_dir() else []
        names.append(f"{child.name} ({join_names(inside, LISTED)})" if inside else child.name)
    return join_names(names, 2 * LISTED) or "nothing"
