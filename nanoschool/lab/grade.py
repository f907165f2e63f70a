"""grade: what credit is worth, held against the true advantage: pure functions, each with the interval of its problems.

Attempts at one problem share its states, so whole problems are drawn with replacement (cluster bootstrap; Efron 1979), or
left out in turn (jackknife; Tukey 1958) where a statistic counts pairs of problems. Numpy only; n is that of problems.
Shapes: K steps, P problems, S sums a problem, R resamples.
"""

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from nanoschool.evals.stats import RESAMPLES, Z95, Estimate, wilson

Array = np.ndarray
Numbers = Sequence[float] | Array


def correlation(credit_K: Numbers, truth_K: Numbers, problems_K: Sequence[Hashable]) -> Estimate | None:
    """Pearson's r over steps; None where either does not vary, and 0 in a resample where either does not."""
    x, y = (np.asarray(v, float) - np.mean(v) for v in (credit_K, truth_K))
    sums_PS = by_problem(np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1), problems_K)

    def r(sums_RS: Array) -> Array:
        n, sx, sy, sxx, syy, sxy = sums_RS.T
        scale = np.sqrt(np.maximum((sxx - sx * sx / n) * (syy - sy * sy / n), 0.0))
        return np.divide(sxy - sx * sy / n, scale, out=np.zeros_like(scale), where=scale > 1e-12 * n)

    if not np.abs(x).max() > 0 or not np.abs(y).max() > 0:
        return None
    return bootstrap(sums_PS, r)


def sign_agreement(
    credit_K: Numbers, truth_K: Numbers, problems_K: Sequence[Hashable], least: float
) -> Estimate | None:
    """Of the steps whose advantage is beyond ±`least`, the share that is credited in its direction; credit of 0 is not."""
    credit, truth = np.asarray(credit_K, float), np.asarray(truth_K, float)
    told = np.abs(truth) > least
    return share(told & (np.sign(credit) == np.sign(truth)), told, problems_K)


def idle_share(
    weight_K: Numbers, truth_K: Numbers, problems_K: Sequence[Hashable], least: float
) -> Estimate | None:
    """The share of all credit that falls on steps that made no difference: advantage within ±`least`.

    weight[k] is Σ|credit| over the tokens of step k.
    """
    weight = np.asarray(weight_K, float)
    return share(weight * (np.abs(np.asarray(truth_K, float)) <= least), weight, problems_K)


def share(part_K: Array, whole_K: Array, problems_K: Sequence[Hashable]) -> Estimate | None:
    """Σ part / Σ whole; None where the whole is 0. Of a share of 0 or 1 the interval is Wilson's: it is no point."""
    sums_PS = by_problem(np.stack([part_K, whole_K], axis=1).astype(float), problems_K)

    def of(sums_RS: Array) -> Array:
        part, whole = sums_RS.T
        return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)

    found = bootstrap(sums_PS, of)
    if found is None or found.low < found.high:
        return found
    return Estimate(found.mean, *wilson(found.mean * found.n, found.n), found.n)


def signal_to_noise(gram_PP: Array) -> Estimate:
    """‖E g‖² / tr Cov(g) of one problem's gradient g, from the inner products of P problems' gradients; 0 is pure noise.

    Both parts are without bias: the squared mean is that of pairs of different problems, so it may come out below 0.
    """

    def of(kept_P: Array) -> float:
        inside = gram_PP[np.ix_(kept_P, kept_P)]
        n, own = len(kept_P), np.trace(inside)
        signal = (inside.sum() - own) / (n * (n - 1))
        noise = own / n - signal
        return float(signal / noise) if noise > 0 else 0.0

    return jackknife(len(gram_PP), of)


def cosine(own_PP: Array, cross_PP: Array, true_PP: Array) -> Estimate:
    """Of the angle between two batch gradients, given the inner products of each problem's parts of them.

    cross[i, j] is that of the first's part i and the second's part j.
    """

    def of(kept_P: Array) -> float:
        own, cross, true = (m[np.ix_(kept_P, kept_P)].sum() for m in (own_PP, cross_PP, true_PP))
        return float(cross / np.sqrt(own * true)) if own > 0 and true > 0 else 0.0

    found = jackknife(len(own_PP), of)
    return Estimate(found.mean, max(found.low, -1.0), min(found.high, 1.0), found.n)


def by_problem(terms_KS: Array, problems_K: Sequence[Hashable]) -> Array:
    """The sum of each column over each problem's steps, (P, S)."""
    numbers: dict[Hashable, int] = {}
    index = [numbers.setdefault(problem, len(numbers)) for problem in problems_K]
    return np.stack([np.bincount(index, weights=column) for column in terms_KS.T], axis=1)


def bootstrap(sums_PS: Array, statistic: Callable[[Array], Array], seed: int = 0) -> Estimate | None:
    """A statistic of sums over problems, (R, S) -> (R,), and its 95 % percentile interval; None where it is not defined.

    A resample in which it is not defined is left out.
    """
    (found,) = statistic(sums_PS.sum(0)[None])
    if np.isnan(found):
        return None
    P = len(sums_PS)
    drawn_RP = np.random.default_rng(seed).multinomial(P, np.full(P, 1 / P), size=RESAMPLES)
    resampled_R = statistic(drawn_RP @ sums_PS)
    low, high = np.percentile(resampled_R[~np.isnan(resampled_R)], [2.5, 97.5])
    return Estimate(float(found), min(float(low), float(found)), max(float(high), float(found)), P)


def jackknife(P: int, statistic: Callable[[Array], float]) -> Estimate:
    """A statistic of the problems that are kept, and the normal 95 % interval of its leave-one-out deviation."""
    every = np.arange(P)
    found = statistic(every)
    without_P = np.array([statistic(np.delete(every, i)) for i in range(P)])
    error = np.sqrt((P - 1) / P * ((without_P - without_P.mean()) ** 2).sum())
    return Estimate(found, float(found - Z95 * error), float(found + Z95 * error), P)
