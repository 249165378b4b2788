"""Label ids of rows in a data set's class order: by the numbers of a list file, or by class names."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from unimos_pipe.base.errors import InputError, join_names
from unimos_pipe.data.class_names import match_class_names, spelling_notes
from unimos_pipe.data.manifest import UNKNOWN_CLASS
from unimos_pipe.data.row_lists import ManifestRow


def labels_from_numbers(file: Path, rows: Sequence[ManifestRow], classes: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return label ids of a list's rows, by the class folders in the paths.

    The numbers in the list are used only if no path has a class folder, because published lists of the same data set
    number the classes differently.

    Returns:
        Label ids in the order of ``rows``, and a note if the list numbers the classes differently.
    Raises:
        InputError: class folders or ids that are not in ``classes``, or an id with two classes.
    """
    ids = {name: label for label, name in enumerate(classes)}
    folders = [PurePosixPath(row.path).parent.name for row in rows]
    matches = match_class_names(list(dict.fromkeys(folders)), classes)
    folders = [matches.get(name, name) for name in folders]
    pairs = {(int(row.label), name) for row, name in zip(rows, folders, strict=True)}
    names, labels = {name for _, name in pairs}, {label for label, _ in pairs}
    one_to_one = len(names) == len(labels) == len(pairs)
    unknown = sorted(names - set(ids))
    if len(unknown) == len(names) and not (one_to_one and len(names) > 1):  # no class folders in the paths
        if beyond := sorted(label for label in labels if label >= len(classes)):
            raise InputError(
                f"list file {file}: labels", expected=f"0 to {len(classes) - 1}", got=join_names(beyond, 5)
            )
        return [int(row.label) for row in rows], []
    if unknown:
        missing = [name for name in classes if name not in names]
        raise InputError(
            f"list file {file}: classes that are not in the spec: {join_names(unknown)}; spec classes not in the list: "
            f"{join_names(missing)}. Correct the class list in a spec of your own"
        )
    if not one_to_one:
        raise InputError(
            f"list file {file}: labels and class folders contradict each other",
            expected=f"one label for each of {len(names)} classes",
            got=f"{len(pairs)} different (label, class) pairs with {len(labels)} labels",
        )
    renumbered = sorted(name for label, name in pairs if ids[name] != label)
    shown = join_names(renumbered, 3)
    notes = [f"{file}: numbers {len(renumbered)} classes differently from the spec ({shown}); bound by name"]
    return [ids[name] for name in folders], notes if renumbered else []


def labels_from_names(
    file: Path, rows: Sequence[ManifestRow], classes: Sequence[str], no_label: int
) -> tuple[list[int], list[str]]:
    """Return label ids of a CSV's rows by class name, also in another spelling, and notes about these.

    An empty name and :data:`unimos_pipe.data.manifest.UNKNOWN_CLASS` are ``no_label``.

    Raises:
        InputError: names that are not classes of the spec.
    """
    ids = {name: label for label, name in enumerate(classes)} | {"": no_label, UNKNOWN_CLASS: no_label}
    names = [row.label if row.label in ids else row.label.strip() for row in rows]
    matches = match_class_names(dict.fromkeys(names), classes)
    if unknown := sorted({name for name in names if name not in ids and name not in matches}):
        raise InputError(
            f"{file}: classes that are not in the spec, so that no prompt names them: {join_names(unknown)}. "
            "Add them to the spec's class list, or take their rows out"
        )
    return [ids[matches.get(name, name)] for name in names], spelling_notes(str(file), matches)
