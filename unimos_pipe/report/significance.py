"""Whether a gain is more than chance: a paired t-test over pairs and seeds, and the spread over seeds."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from unimos_pipe.runs.statistics import mean_and_std

LEVEL = 0.05
NAMED = "An asterisk: beyond the spread over seeds, and p < 0.05 in a paired t-test over pairs and seeds."


@dataclass(frozen=True)
class PairedDifference:
    """A mean difference of fractions, its spread over seeds, and the test's two-sided p (None: too few to test)."""

    mean: float
    spread: float | None = None
    p: float | None = None

    @property
    def significant(self) -> bool:
        """Whether it is beyond the spread and the test rejects that there is none."""
        return self.p is not None and self.p < LEVEL and abs(self.mean) > (self.spread or 0.0)


def paired_difference(rows: Iterable[tuple[str, int, float, float]]) -> PairedDifference | None:
    """The gain of (pair, seed, ours, other), fractions; None of nothing.

    Mean and spread are those of :func:`unimos_pipe.runs.statistics.mean_and_std`. The test is Student's for paired
    samples, each pair and seed one difference.
    """
    rows = list(rows)
    found = mean_and_std((pair, seed, ours - other) for pair, seed, ours, other in rows)
    return found and PairedDifference(found.mean, found.std, _p([row[2] for row in rows], [row[3] for row in rows]))


def _p(ours: list[float], other: list[float]) -> float | None:
    """None of fewer than two differences and where all are zero."""
    if len(ours) < 2 or ours == other:
        return None
    from scipy.stats import ttest_rel  # takes a second to import

    with warnings.catch_warnings(action="ignore"):  # of equal differences: t is infinite and p is 0
        return float(ttest_rel(ours, other).pvalue)
