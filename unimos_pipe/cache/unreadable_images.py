"""The list of a domain's unreadable images, beside its shards."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from unimos_pipe.base.atomic_io import write_text
from unimos_pipe.base.csv_escaping import escape_name, escape_path, unescape_path
from unimos_pipe.base.errors import ReadError
from unimos_pipe.base.safe_open import read_text


def unreadable_path(folder: Path) -> Path:
    """Return the path of the list in a domain's folder."""
    return folder / "unreadable.csv"


def write_unreadable(folder: Path, images: Sequence[tuple[str, str]]) -> None:
    """Write (path, reason) of unreadable images as CSV; without any, the list is removed."""
    target = unreadable_path(folder)
    if not images:
        target.unlink(missing_ok=True)
        return
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", "reason"])
    writer.writerows((escape_path(path), escape_name(reason)) for path, reason in images)
    write_text(target, text.getvalue())


def read_unreadable(folder: Path) -> set[str]:
    """Return the paths of the images in the list of a domain's folder; empty if there is none."""
    try:
        text = read_text(unreadable_path(folder))
    except ReadError as error:
        if error.absent:
            return set()
        raise
    return {unescape_path(cells[0]) for cells in list(csv.reader(io.StringIO(text, newline="")))[1:]}
