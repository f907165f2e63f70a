"""Scores of several training seeds on the same problems: hierarchical bootstrap, paired differences, Holm's correction.

Both seeds and problems are drawn with replacement, and a drawn problem is the same one in every drawn seed, as it is in
the data (the pigeonhole bootstrap, Owen 2007, https://arxiv.org/abs/0712.1111): drawing problems anew within each seed would
average away how hard they are. Of few seeds no percentile interval can be honest: it ends at the best and the worst of
them, which with 5 seeds miss the truth one time in 16 whatever is asked. So the bootstrap gives the standard error, and
Student's t its multiple, with Satterthwaite's degrees of freedom (1946). Numpy only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import atan, exp, inf, lgamma, pi, sqrt

import numpy as np

from nanoschool.evals.stats import Estimate, bounded_mean, paired_difference

RESAMPLES = 4_000  # a standard error is then known to about 1 %
NODES, WEIGHTS = np.polynomial.legendre.leggauss(128)


@dataclass(frozen=True)
class Spread:
    """A mean over seeds and problems, and how sure it is. `df` are Student's degrees of freedom of `error`."""

    mean: float
    error: float  # standard error, over other seeds and other problems
    df: float
    seeds: int
    problems: int
    flat: Estimate | None = None  # where all values are equal: nothing to draw from
    within: tuple[float, float] = (-inf, inf)  # that no value can leave

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Two-sided; where all values are equal, what as many alike problems leave possible (Wilson, at 95 %)."""
        if self.flat is not None:
            return self.flat.low, self.flat.high
        half = student_quantile(1 - confidence, self.df) * self.error
        return max(self.within[0], self.mean - half), min(self.within[1], self.mean + half)

    def p_value(self) -> float:
        """Two-sided, of a mean of 0. Of equal values: 1 where they are 0, else 0, the limit of a vanishing error."""
        if self.error == 0.0:
            return float(self.mean == 0.0)
        return student_tail(abs(self.mean) / self.error, self.df)

    def to_json(self) -> dict[str, float]:
        low, high = self.interval()
        return {"mean": self.mean, "low": low, "high": high, "seeds": self.seeds, "problems": self.problems}


def spread(
    values_SP: Sequence[Sequence[float]], within: tuple[float, float] = (-inf, inf), *, seed: int = 0
) -> Spread:
    """The mean of `values_SP` (training seeds, problems) with its hierarchical bootstrap error; `within` is their range.

    The error is that of other seeds and other problems together; a single seed says nothing of the others, and its
    error is of problems only. The seeds' share is scaled by S/(S-1), for a bootstrap of S is short by that.
    Raises ValueError where the rows differ in length, are empty or not finite.
    """
    values = _table(values_SP)
    S, P = values.shape
    mean = float(values.mean())
    if values.min() == values.max():
        same = values[0].tolist()
        known = max(within) < inf  # a difference is, too, a value whose range nobody told
        flat = bounded_mean(same, *within) if known else paired_difference([0.0] * P, same)
        return Spread(mean, 0.0, 1.0, S, P, flat, within)
    rng = np.random.default_rng(seed)
    seeds_RS = rng.multinomial(S, np.full(S, 1 / S), size=RESAMPLES) / S
    problems_RP = rng.multinomial(P, np.full(P, 1 / P), size=RESAMPLES) / P
    both = float(np.einsum("rs,sp,rp->r", seeds_RS, values, problems_RP, optimize=True).var())
    by_seed = float(values.mean(1).var(ddof=1) / S) if S > 1 else 0.0
    by_problem = float(values.mean(0).var(ddof=1) / P) if P > 1 else 0.0
    error = sqrt(max(both + (by_seed / S if S > 1 else 0.0), 1e-300))
    return Spread(mean, error, _freedom(by_seed, by_problem, S, P), S, P, within=within)


def paired(
    before_SP: Sequence[Sequence[float]], after_SP: Sequence[Sequence[float]], *, seed: int = 0
) -> Spread:
    """after − before, by seed and problem: seeds that share their draws and problems that are the same are paired."""
    before, after = _table(before_SP), _table(after_SP)
    if before.shape != after.shape:
        raise ValueError(f"paired: {before.shape} seeds and problems before but {after.shape} after")
    return spread((after - before).tolist(), seed=seed)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (1979), in the order given: max over j ≤ i of min(1, (m − j) p_(j)), j from 0.

    Those below α can be rejected together, and the chance of a single false one stays below α.
    """
    m, highest, adjusted = len(p_values), 0.0, [0.0] * len(p_values)
    for rank, i in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (m - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def student_tail(t: float, df: float) -> float:
    """P(|T| > t) of Student's distribution with `df` degrees of freedom, which need not be whole.

    With t = √df tan θ the density is proportional to cos^(df−1) θ; integrated by Gauss and Legendre's rule.
    """
    theta = atan(t / sqrt(df))
    height = exp(lgamma((df + 1) / 2) - lgamma(df / 2)) / sqrt(pi)
    far = min(pi / 2, theta + 40 / sqrt(df))  # beyond which nothing is left
    x = (far - theta) / 2 * NODES + (far + theta) / 2
    inside = (far - theta) / 2 * float(WEIGHTS @ np.cos(x) ** (df - 1))
    return min(1.0, 2 * height * inside)


def student_quantile(tail: float, df: float) -> float:
    """The t with P(|T| > t) = `tail`, by bisection to about 1e-12 of itself."""
    low, high = 0.0, 1.0
    while student_tail(high, df) > tail:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_tail(middle, df) > tail else (low, middle)
    return (low + high) / 2


def _freedom(by_seed: float, by_problem: float, S: int, P: int) -> float:
    """Satterthwaite's: of a sum of variances known to S − 1 and to P − 1 degrees of freedom."""
    parts = by_seed**2 / max(S - 1, 1) + by_problem**2 / max(P - 1, 1)
    return (by_seed + by_problem) ** 2 / parts if parts else 1.0


def _table(values_SP: Sequence[Sequence[float]]) -> np.ndarray:
    if not values_SP or len({len(row) for row in values_SP}) != 1 or not len(values_SP[0]):
        raise ValueError("seeds: needs a row of as many numbers for each seed, and at least one of each")
    values = np.asarray(values_SP, dtype=float)
    if not np.isfinite(values).all():
        raise ValueError("seeds: needs finite numbers")
    return values
