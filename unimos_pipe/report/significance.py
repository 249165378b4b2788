"""Paired differences between two settings: 95% interval, t-test, Wilcoxon's test and Holm's correction.

The unit of a test is the pair of domains: a pair's differences are averaged over its seeds first, because seeds repeat
one pair's effect and are no independent evidence for others.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev

from unimos_pipe.runs.statistics import mean_and_std

LEVEL = 0.05


@dataclass(frozen=True)
class PairedDifference:
    """A mean difference of fractions over pairs of domains.

    Attributes:
        mean: over seeds, then pairs.
        std: sample standard deviation over the seeds' means; None of one seed.
        by_pair: each pair's difference, averaged over its seeds.
        by_seed: each seed's difference of a lone pair; empty of several pairs.
    """

    mean: float
    std: float | None
    by_pair: tuple[float, ...]
    by_seed: tuple[float, ...] = ()

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% t-interval of the mean over pairs, of a lone pair over its seeds; None of fewer than two values."""
        values = self.by_pair if len(self.by_pair) > 1 else self.by_seed
        if len(values) < 2:
            return None
        from scipy.special import stdtrit  # takes a tenth of a second to import

        half = float(stdtrit(len(values) - 1, 1 - LEVEL / 2)) * stdev(values) / sqrt(len(values))
        return self.mean - half, self.mean + half

    @property
    def p(self) -> float | None:
        """Two-sided p of Student's one-sample t-test on the pairs' differences; None of one pair.

        1 where all differences are zero, 0 where they are equal and not zero.
        """
        count = len(self.by_pair)
        if count < 2:
            return None
        if not any(self.by_pair):
            return 1.0
        error = stdev(self.by_pair) / sqrt(count)
        if error == 0:
            return 0.0
        from scipy.special import stdtr

        return float(2 * stdtr(count - 1, -abs(mean(self.by_pair)) / error))

    @property
    def p_wilcoxon(self) -> float | None:
        """Two-sided p of Wilcoxon's signed-rank test on the pairs' differences; None of one pair.

        With fewer than six pairs it cannot fall below 0.05.
        """
        if len(self.by_pair) < 2:
            return None
        if not any(self.by_pair):
            return 1.0
        from scipy.stats import wilcoxon  # takes a second to import

        with warnings.catch_warnings(action="ignore"):  # of ties, for which scipy takes the normal approximation
            return float(wilcoxon(self.by_pair).pvalue)


def paired_difference(rows: Iterable[tuple[str, int, float, float]]) -> PairedDifference | None:
    """The difference of (pair, seed, ours, other), fractions; None of nothing.

    Mean and standard deviation are those of :func:`unimos_pipe.runs.statistics.mean_and_std`.
    """
    rows = [(pair, seed, ours - other) for pair, seed, ours, other in rows]
    total = mean_and_std(rows)
    if total is None:
        return None
    by_pair: dict[str, dict[int, list[float]]] = {}
    for pair, seed, difference in rows:
        by_pair.setdefault(pair, {}).setdefault(seed, []).append(difference)
    seeds = [[mean(values) for values in by_seed.values()] for by_seed in by_pair.values()]
    lone = tuple(seeds[0]) if len(seeds) == 1 else ()
    return PairedDifference(total.mean, total.std, tuple(map(mean, seeds)), lone)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values (Holm 1979), in the order given: below 0.05, a family-wise error of at most 5%."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
