"""The manifest of a domain: its rows. :mod:`unimos_pipe.data.build_manifest` creates it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np  # importing numpy takes a third of the start-up time

NO_LABEL = -1
UNKNOWN_CLASS = "(unknown)"  # in a label file: the image is of none of the classes


@dataclass(frozen=True)
class Manifest:
    """The rows of one domain: row i is image ``paths[i]`` (POSIX, relative to ``root``) with ``labels[i]``.

    ``domain`` is the cache's name for it, with ``.train`` or ``.test`` where the data set splits its domains.
    ``labels`` is (n,) int64, -1 where there is none; ``sizes`` (n,) int64 in bytes; ``notes`` are worth a warning.
    """

    dataset: str
    domain: str
    classes: tuple[str, ...]
    root: Path
    paths: tuple[str, ...]
    labels: "np.ndarray" = field(repr=False)
    sizes: "np.ndarray" = field(repr=False)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)
