"""Reports without figures, which are most of a report's time; tests/report makes them."""

from collections.abc import Mapping

import numpy as np
import pytest

from unimos_pipe.report import figures, modality_gap, section


def leave_out_figures(patch: pytest.MonkeyPatch) -> None:
    """Write no figure, and take the first two columns in the place of a t-SNE."""
    patch.setattr(figures, "save_figure", lambda *_: "<svg></svg>")
    patch.setattr(section, "tsne", _first_two_columns)


def _first_two_columns(groups: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: rows[modality_gap.evenly_spaced(len(rows)), :2] for name, rows in groups.items()}
