"""The one mean and spread: over runs, then seeds, then pairs; the spread is over the seeds' means."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import mean, stdev


@dataclass(frozen=True)
class MeanSpread:
    """A mean and, where there is more than one seed, the sample standard deviation over the seeds' means."""

    mean: float
    spread: float | None = None

    def text(self) -> str:
        """Of fractions: ``72.3 ± 0.4`` in percent; ``72.3`` where there is no spread."""
        spread = "" if self.spread is None else f" ± {100 * self.spread:.1f}"
        return f"{100 * self.mean:.1f}{spread}"


def mean_and_spread(values: Iterable[tuple[str, int, float]]) -> MeanSpread | None:
    """Mean and spread of (pair, seed, value); None of nothing.

    The mean is over the runs of one pair and seed, then over a pair's seeds, then over the pairs. The spread is that of
    the seeds' means over the pairs, of the seeds that every pair has.
    """
    found: dict[str, dict[int, list[float]]] = {}
    for pair, seed, value in values:
        found.setdefault(pair, {}).setdefault(seed, []).append(value)
    if not found:
        return None
    pairs = [{seed: mean(runs) for seed, runs in seeds.items()} for seeds in found.values()]
    common = set.intersection(*(set(seeds) for seeds in pairs))
    by_seed = [mean(seeds[seed] for seeds in pairs) for seed in sorted(common)]
    spread = stdev(by_seed) if len(by_seed) > 1 else None
    return MeanSpread(mean(mean(seeds.values()) for seeds in pairs), spread)
