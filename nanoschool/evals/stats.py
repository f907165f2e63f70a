"""Intervals: how sure a measured number is, by the Wilson score and the bootstrap (Wilson 1927; Efron 1979).

Every score in a report is an Estimate: a mean, a 95 % interval and the number of independent things it was taken over.
The interval says how the number would move with other problems of the same kind, not with another seed of the run.
Numpy only.
"""

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

Z95 = 1.959963984540054  # 97.5th percentile of the standard normal
RESAMPLES = 2_000  # ends of a 95 % percentile interval then rest on 50 resamples each


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval; `n` counts independent units (problems), not attempts at them."""

    mean: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def wilson(successes: float, n: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927; Brown, Cai & DasGupta 2001 recommend it).

    Unlike mean ± 2 standard errors it does not collapse to a point at 0 of n or n of n. Raises ValueError
    if n is below 1 or `successes` is outside 0..n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(
            f"wilson: {successes} successes of {n}: needs n of at least 1 and 0 <= successes <= n"
        )
    p, z2 = successes / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * np.sqrt(p * (1 - p) / n + z2 / (4 * n**2))
    # Rounding must not leave the mean outside its own interval at 0 of n and n of n.
    return float(min(p, max(0.0, centre - half))), float(max(p, min(1.0, centre + half)))


def proportion(successes: float, n: int) -> Estimate:
    """The share of n independent yes-or-no problems that came out yes, with its Wilson interval."""
    low, high = wilson(successes, n)
    return Estimate(float(successes / n), low, high, n)


def bounded_mean(values: Sequence[float], low: float, high: float) -> Estimate:
    """The mean of values from `low` to `high` with Wilson's interval, scaled to that range.

    It is that of a proportion where only the two ends occur, and too wide rather than too narrow where others do: a
    mean m of numbers in 0..1 has variance at most m (1 - m). Unlike a bootstrap it has a width where all are equal.
    Raises ValueError as `wilson` does, and where low is not below high.
    """
    if not low < high:
        raise ValueError(f"bounded_mean: a range from {low} to {high}")
    within = wilson(sum((value - low) / (high - low) for value in values), len(values))
    mean = float(sum(values) / len(values))
    ends = [low + (high - low) * end for end in within]
    return Estimate(mean, min(mean, ends[0]), max(mean, ends[1]), len(values))


def mean_interval(
    values: Sequence[float], clusters: Sequence[Hashable] | None = None, *, seed: int = 0
) -> Estimate:
    """The mean of `values` with a 95 % percentile bootstrap interval (Efron 1979).

    `clusters` names the problem that each value belongs to: attempts at one problem are no independent evidence, so
    whole problems are drawn with replacement, and `n` is then the number of problems. For single yes-or-no values
    use `proportion`: where all values are equal a bootstrap has nothing to draw from and its interval is a point.
    Raises ValueError on an empty or non-finite list, or on clusters of another length.
    """
    values_N = np.asarray(values, dtype=float)
    if values_N.ndim != 1 or not values_N.size or not np.isfinite(values_N).all():
        raise ValueError(f"mean_interval: needs a flat list of finite numbers, got shape {values_N.shape}")
    if clusters is None:
        sums_C, counts_C = values_N, np.ones_like(values_N)
    else:
        if len(clusters) != len(values_N):
            raise ValueError(f"mean_interval: {len(values_N)} values but {len(clusters)} clusters")
        numbers: dict[Hashable, int] = {}
        index_N = [numbers.setdefault(name, len(numbers)) for name in clusters]
        sums_C, counts_C = np.bincount(index_N, weights=values_N), np.bincount(index_N).astype(float)
    rng, C = np.random.default_rng(seed), len(sums_C)
    means_R = np.empty(RESAMPLES)
    for r in range(RESAMPLES):
        drawn_C = rng.integers(C, size=C)
        means_R[r] = sums_C[drawn_C].sum() / counts_C[drawn_C].sum()
    low, high = np.percentile(means_R, [2.5, 97.5])
    mean = float(values_N.mean())
    # The bootstrap's centre is the mean; only float rounding can push it out where all values are equal.
    return Estimate(mean, min(float(low), mean), max(float(high), mean), C)


def paired_difference(before: Sequence[float], after: Sequence[float], *, seed: int = 0) -> Estimate:
    """after - before over the same problems in the same order, bootstrapped over the pairs.

    Pairing removes how hard the problems are from the error: what is left is how they changed. One entry a problem
    (average the attempts first). Where every pair changed alike the bootstrap would report certainty; there the
    interval allows for the share of other pairs that n alike ones leave possible (Wilson), each changed by as much as
    any two of the scores differ, at least by 1.
    Raises ValueError if the lists differ in length, are empty or not finite.
    """
    if len(before) != len(after):
        raise ValueError(f"paired_difference: {len(before)} problems before but {len(after)} after")
    changes_N = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    estimate = mean_interval(changes_N, seed=seed)
    if changes_N.min() < changes_N.max():
        return estimate
    most = max(
        1.0, float(max(*before, *after) - min(*before, *after))
    )  # that a pair unlike these may have changed
    mean, unseen = estimate.mean, wilson(0, estimate.n)[1]
    low, high = mean - unseen * (most + mean), mean + unseen * (most - mean)
    return Estimate(mean, min(mean, low), max(mean, high), estimate.n)
