"""Mean and standard deviation over runs, seeds and pairs, and confidence intervals of accuracies."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, mean, stdev

Z = NormalDist().inv_cdf(0.975)  # of a 95% interval


@dataclass(frozen=True)
class MeanStd:
    """A mean and the sample standard deviation of the seeds' means; None for a single seed."""

    mean: float
    std: float | None = None

    def text(self) -> str:
        """Return fractions as ``72.3 ± 0.4`` in percent; ``72.3`` without a standard deviation."""
        std = "" if self.std is None else f" ± {100 * self.std:.1f}"
        return f"{100 * self.mean:.1f}{std}"


def mean_and_std(values: Iterable[tuple[str, int, float]]) -> MeanStd | None:
    """Return the mean and standard deviation of (pair, seed, value); None without values.

    The mean is over the runs of a pair and seed, then over a pair's seeds, then over pairs. The standard deviation is
    over the seeds' means over pairs, for the seeds that every pair has.
    """
    values_by_pair: dict[str, dict[int, list[float]]] = {}
    for pair, seed, value in values:
        values_by_pair.setdefault(pair, {}).setdefault(seed, []).append(value)
    if not values_by_pair:
        return None
    pairs = [{seed: mean(runs) for seed, runs in seeds.items()} for seeds in values_by_pair.values()]
    common = set.intersection(*(set(seeds) for seeds in pairs))
    by_seed = [mean(seeds[seed] for seeds in pairs) for seed in sorted(common)]
    std = stdev(by_seed) if len(by_seed) > 1 else None
    return MeanStd(mean(mean(seeds.values()) for seeds in pairs), std)


def wilson_interval(share: float, rows: int) -> tuple[float, float]:
    """Return the 95% Wilson score interval of a share observed on a random sample of rows (Wilson 1927), fractions.

    Args:
        share: 0 to 1; may be a mean over seeds.
        rows: at least 1.
    """
    center = share + Z**2 / (2 * rows)
    half_width = Z * sqrt(share * (1 - share) / rows + Z**2 / (4 * rows**2))
    denominator = 1 + Z**2 / rows
    return max(0.0, (center - half_width) / denominator), min(1.0, (center + half_width) / denominator)


def describe_labelled_rows(share: float, labelled: int, rows: int) -> str:
    """Return the uncertainty of an accuracy on some rows: ``20 labelled of 281 rows, 95% interval 53.1 to 88.8``."""
    low, high = wilson_interval(share, labelled)
    return f"{labelled} labelled of {rows} rows, 95% interval {100 * low:.1f} to {100 * high:.1f}"
