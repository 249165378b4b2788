"""Search for the labels among the arrays of a feature file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from unimos_pipe.base.errors import Argument, InputError, join_names
from unimos_pipe.data.class_names import match_class_names
from unimos_pipe.interop.array_readers import LazyArray, open_arrays

_BASES = ("labels", "label", "targets", "target", "y", "ys", "class", "classes", "category", "categories")
_BASES += ("gt", "ground_truth", "truth", "gnd", "cls", "lab", "lbl", "fine_labels", "fine_label")
_FORMS = ("{}", "{}_id", "{}_ids", "{}id", "{}_idx", "{}_index", "true_{}", "{}_true", "train_{}", "{}_train")
LABEL_NAMES = tuple(form.format(base) for form in _FORMS for base in _BASES)


def usual_label_name(arrays: Mapping[str, LazyArray], names: Sequence[str] = LABEL_NAMES) -> str | None:
    """Return the first of the usual names that an array of one or two dimensions has, ignoring case."""
    by_lower = {name.lower().replace("-", "_"): name for name, array in arrays.items() if _is_column(array)}
    if "classes" in by_lower and not _is_numeric(arrays[by_lower["classes"]]):
        del by_lower["classes"]  # the names of the classes
    return next((by_lower[name] for name in names if name in by_lower), None)


def _is_column(array: LazyArray) -> bool:
    return len(array.shape) == 1 or (len(array.shape) == 2 and ("int" in array.dtype or array.shape[1] == 1))


def _is_numeric(array: LazyArray) -> bool:
    return "int" in array.dtype or "float" in array.dtype


def column_candidates(
    arrays: Mapping[str, LazyArray], count: int, others: Sequence[str | None]
) -> dict[str, np.ndarray]:
    """Return all arrays of ``count`` integers or texts that may be labels, without those named ``others``."""
    return {
        name: np.asarray(array.read()).reshape(-1)
        for name, array in arrays.items()
        if name not in others
        and ("int" in array.dtype or array.dtype == "text")
        and _is_column(array)
        and array.shape[0] == count
        and array.shape[1:] in ((), (1,))
    }


def choose_labels(
    candidates: Mapping[str, np.ndarray], classes: Sequence[str], what: str
) -> tuple[np.ndarray | None, list[str]]:
    """Return the only array whose values are class numbers or names, or None, and notes.

    Raises:
        InputError: several arrays may be the labels.
    """
    fitting = [name for name, values in candidates.items() if _may_be_labels(values, classes)]
    if len(fitting) > 1:
        several = f"{what} has several arrays that may be the labels, {join_names(fitting)}; name one with "
        raise InputError((several, Argument("label_key"), ", or '' for no labels"))
    if fitting:
        return candidates[fitting[0]], [f"{what}: labels are read from the array {fitting[0]!r}"]
    integers = [name for name, values in candidates.items() if values.dtype.kind in "iu"]
    if not integers:
        return None, []
    names = join_names(map(repr, integers))
    return None, [f"{what}: no labels: the values of {names} are not 0 to {len(classes) - 1}, or -1 for none"]


def _may_be_labels(values: np.ndarray, classes: Sequence[str]) -> bool:
    if values.dtype.kind in "iu":
        return bool(values.size) and values.min() >= -1 and 0 <= values.max() < len(classes)
    names = {str(value) for value in values.tolist()}
    return bool(names) and names <= match_class_names(names, classes).keys()


def read_label_array(file: Path) -> np.ndarray:
    """Return the labels in a file of arrays: (n,) numbers or class names.

    Raises:
        InputError: no array of labels, or several.
    """
    with open_arrays(file) as arrays:
        columns = {
            name: array for name, array in arrays.items() if len(array.shape) in (1, 2) and array.dtype != "bool"
        }
        name = usual_label_name(columns)
        if name is None and len(columns) == 1:
            (name,) = columns
        if name is None or columns[name].shape[1:] not in ((), (1,)):
            got = join_names((f"{name} ({array})" if name else str(array) for name, array in arrays.items()), 12)
            raise InputError(f"{file}", expected="an array of n labels, named 'labels' if there are several", got=got)
        return np.array(columns[name].read()).reshape(-1)
