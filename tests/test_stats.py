"""Golden numbers of pass@k and Wilson, and that a 95 % interval holds the truth about 95 times in 100."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoschool.evals.passk import mean_pass_at_k, pass_at_k
from nanoschool.evals.stats import (
    Estimate,
    bounded_mean,
    mean_interval,
    paired_difference,
    proportion,
    wilson,
)


@pytest.mark.parametrize(
    ("n", "c", "k", "golden"), [(8, 3, 1, 0.375), (8, 3, 2, 0.642857), (8, 3, 4, 0.928571), (8, 6, 4, 1.0)]
)
def test_pass_at_k_golden(n, c, k, golden):
    assert pass_at_k(n, c, k) == pytest.approx(golden, abs=5e-7)


@given(st.integers(1, 9), st.data())
def test_pass_at_k_is_the_share_of_draws_with_a_right_attempt(n, data):
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    draws = list(combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))


@pytest.mark.parametrize("bad", [(8, 3, 0), (8, 3, 9), (8, 9, 1), (8, -1, 1)])
def test_pass_at_k_refuses_the_impossible(bad):
    with pytest.raises(ValueError, match="needs 1 <= k <= n"):
        pass_at_k(*bad)


def test_mean_pass_at_k():
    one = mean_pass_at_k([0, 8, 16, 4], 16, 1)
    assert one.mean == pytest.approx((0 + 0.5 + 1 + 0.25) / 4) and one.n == 4
    assert one.low < one.mean < one.high
    assert mean_pass_at_k([0, 8, 16, 4], 16, 16).mean == 0.75
    never = mean_pass_at_k([0] * 100, 16, 16)
    assert never.mean == never.low == 0 and 0.03 < never.high < 0.04  # 0 of 100 is not proof of never
    with pytest.raises(ValueError):
        mean_pass_at_k([], 16, 1)


@pytest.mark.parametrize(  # Brown, Cai & DasGupta (2001), and R's prop.test(correct = FALSE)
    ("c", "n", "low", "high"),
    [(0, 10, 0.0, 0.277533), (5, 10, 0.236593, 0.763407), (90, 100, 0.825634, 0.944771)],
)
def test_wilson_golden(c, n, low, high):
    assert wilson(c, n) == pytest.approx((low, high), abs=1e-5)


@given(st.integers(1, 5000), st.data())
@settings(max_examples=60)
def test_wilson_holds_its_mean_and_mirrors(n, data):
    c = data.draw(st.integers(0, n))
    low, high = wilson(c, n)
    assert 0 <= low <= c / n <= high <= 1 and low < high
    assert (1 - high, 1 - low) == pytest.approx(wilson(n - c, n))


@pytest.mark.parametrize("bad", [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_the_impossible(bad):
    with pytest.raises(ValueError, match="wilson"):
        wilson(*bad)


def coverage(truth, estimates):
    return np.mean([e.low <= truth <= e.high for e in estimates])


def test_wilson_covers():
    rng = np.random.default_rng(1)
    for p in (0.02, 0.3, 0.9):
        assert 0.93 < coverage(p, [proportion(c, 200) for c in rng.binomial(200, p, size=2000)]) < 0.975


def test_bootstrap_covers():
    rng = np.random.default_rng(2)
    runs = [mean_interval(rng.exponential(1.0, size=100), seed=i) for i in range(200)]
    assert 0.89 < coverage(1.0, runs) <= 0.985
    assert {e.n for e in runs} == {100}


def test_clusters_cover_where_ignoring_them_would_not():
    rng, naive, clustered = np.random.default_rng(3), [], []
    problems = np.repeat(np.arange(50), 8)
    for i in range(150):  # a problem is hard or easy, so its 8 attempts mostly agree
        hits = rng.binomial(1, np.repeat(rng.beta(0.3, 0.3, size=50), 8))
        naive.append(mean_interval(hits, seed=i))
        clustered.append(mean_interval(hits, problems, seed=i))
    assert coverage(0.5, clustered) > 0.89 and coverage(0.5, naive) < 0.75
    assert clustered[0].n == 50 and naive[0].n == 400 and clustered[0].mean == naive[0].mean


def test_unequal_clusters_weigh_by_their_values():
    assert mean_interval([1, 1, 1, 0], ["a", "a", "a", "b"]).mean == 0.75


def test_pairs_cover_and_are_narrower_than_the_difference_of_means():
    rng, estimates = np.random.default_rng(4), []
    for i in range(150):
        hardness = rng.normal(0, 1, size=100)
        before, after = hardness + rng.normal(0, 0.2, size=100), hardness + 0.1 + rng.normal(0, 0.2, size=100)
        estimates.append(paired_difference(before, after, seed=i))
    assert coverage(0.1, estimates) > 0.89
    assert estimates[0].high - estimates[0].low < 0.2  # unpaired: about 0.55
    assert paired_difference([0, 0, 1], [1, 1, 1]).mean == pytest.approx(2 / 3)


def test_the_same_seed_gives_the_same_interval_and_no_global_state_is_touched():
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    assert mean_interval([0, 1, 1, 0, 1]) == mean_interval([0, 1, 1, 0, 1])
    assert (np.random.get_state()[1] == state).all()


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1])
def test_equal_values_are_a_point_that_holds_its_mean(value):
    e = mean_interval([value] * 7)
    assert e.low <= e.mean <= e.high and e.high - e.low < 1e-12


def test_pairs_that_changed_alike_are_no_certainty():
    """Nobody of 8 changed: a share of up to 32 % that would have is still possible, in either direction."""
    none = paired_difference([0, 1] * 4, [0, 1] * 4)
    assert none.mean == 0 and none.n == 8
    assert (none.low, none.high) == pytest.approx((-wilson(0, 8)[1], wilson(0, 8)[1]))
    every = paired_difference([0.0] * 300, [1.0] * 300)
    assert every.high == every.mean == 1 and 0.97 < every.low < 0.98
    worse = paired_difference([1.0] * 300, [0.0] * 300)
    assert worse.low == worse.mean == -1 and -0.98 < worse.high < -0.97


def test_a_bounded_mean_is_a_scaled_proportion():
    won = bounded_mean([1.0] * 30 + [-1.0] * 10, -1.0, 1.0)
    low, high = wilson(30, 40)
    assert won.mean == 0.5 and (won.low, won.high) == pytest.approx((2 * low - 1, 2 * high - 1))
    always = bounded_mean([1.0] * 40, -1.0, 1.0)
    assert always.high == always.mean == 1 and always.low == pytest.approx(1 - 2 * wilson(0, 40)[1])
    between = bounded_mean([0.3] * 40, 0.0, 1.0)
    assert between.low < 0.3 == pytest.approx(between.mean) and between.high > 0.4
    with pytest.raises(ValueError, match="a range from 1 to 1"):
        bounded_mean([1], 1, 1)


def test_a_pair_unlike_the_others_may_have_changed_by_as_much_as_the_rewards_differ():
    same = paired_difference([-1, 1] * 4, [-1, 1] * 4)
    assert (same.low, same.high) == pytest.approx((-2 * wilson(0, 8)[1], 2 * wilson(0, 8)[1]))


def test_mistakes_are_named():
    for call in (
        lambda: mean_interval([]),
        lambda: mean_interval([1.0, float("nan")]),
        lambda: mean_interval([[1.0]]),
    ):
        with pytest.raises(ValueError, match="finite numbers"):
            call()
    with pytest.raises(ValueError, match="2 values but 1 clusters"):
        mean_interval([0, 1], ["a"])
    with pytest.raises(ValueError, match="1 problems before but 2 after"):
        paired_difference([0], [0, 1])


def test_to_json_is_plain():
    e = Estimate(0.5, 0.25, 0.75, 4)
    assert e.to_json() == {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 4}
    assert {type(v) for v in mean_interval(np.array([0, 1])).to_json().values()} == {float, int}
    assert {type(v) for v in proportion(np.int64(3), 5).to_json().values()} == {float, int}
