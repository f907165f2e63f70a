"""pass@k: the chance that at least one of k attempts is right, without bias, from n attempts (Chen et al. 2107.03374).

Drawing k of the n attempts without replacement misses every right one with probability C(n-c, k) / C(n, k).
Averaging over all such draws has less noise than looking at the first k attempts, and unlike 1 - (1 - c/n)^k no bias.
"""

from collections.abc import Sequence
from math import comb

from nanoschool.evals.stats import Estimate, mean_interval, proportion


def pass_at_k(n: int, c: int, k: int) -> float:
    """1 - C(n-c, k) / C(n, k) for c right of n attempts (Chen et al. 2107.03374, Eq. 1).

    Exact in integers until the one division, so no product of ratios is needed. Raises ValueError unless
    1 <= k <= n and 0 <= c <= n.
    """
    if not 1 <= k <= n or not 0 <= c <= n:
        raise ValueError(f"pass_at_k: n={n}, c={c}, k={k}: needs 1 <= k <= n and 0 <= c <= n")
    return 1 - comb(n - c, k) / comb(n, k)


def mean_pass_at_k(counts_P: Sequence[int], n: int, k: int, *, seed: int = 0) -> Estimate:
    """Mean pass@k over problems, with a 95 % bootstrap interval over problems.

    `counts_P` holds for each problem how many of its n attempts were right. Where every problem has the same value
    the bootstrap would report certainty; there the Wilson interval over the P problems stands instead, which is
    never too narrow, as a mean m of numbers in 0..1 has variance at most m(1 - m). Raises ValueError on no problems.
    """
    values_P = [pass_at_k(n, c, k) for c in counts_P]
    if values_P and min(values_P) == max(values_P):
        return proportion(values_P[0] * len(values_P), len(values_P))
    return mean_interval(values_P, seed=seed)
