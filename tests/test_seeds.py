"""Holm against hand-worked values, Student against closed forms, and intervals over seeds and problems that cover."""

from math import atan, pi, sqrt

import numpy as np
import pytest

from nanoschool.evals.seeds import holm, paired, spread, student_quantile, student_tail
from nanoschool.evals.stats import wilson


def test_holm_by_hand():
    # sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1 is 0.02, 0.03, 0.06, 0.04, and none may fall again
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02]) == [0.02] and holm([]) == []
    assert holm([0.6, 0.7]) == [1.0, 1.0]  # no p-value is above 1
    assert holm([0.01, 0.01]) == [0.02, 0.02]


def test_holm_of_true_nulls_rejects_one_in_twenty_times():
    rng = np.random.default_rng(0)
    any_rejected = np.mean([min(holm(rng.random(6).tolist())) < 0.05 for _ in range(3000)])
    assert 0.037 < any_rejected < 0.062


@pytest.mark.parametrize("t", [0.0, 0.3, 2.0, 50.0])
def test_student_has_closed_forms_at_one_and_two(t):
    assert student_tail(t, 1) == pytest.approx(1 - 2 / pi * atan(t), rel=1e-9)
    assert student_tail(t, 2) == pytest.approx(1 - t / sqrt(2 + t * t), rel=1e-6)


@pytest.mark.parametrize(("df", "golden"), [(1, 12.70620), (4, 2.77645), (9, 2.26216), (1e5, 1.95998)])
def test_student_quantiles_of_the_tables(df, golden):
    assert student_quantile(0.05, df) == pytest.approx(golden, abs=2e-5)
    assert student_tail(student_quantile(0.003, df), df) == pytest.approx(0.003, rel=1e-6)


def drawn(rng, S, P, by_seed, by_problem, noise):
    return (
        0.5
        + by_seed * rng.normal(size=(S, 1))
        + by_problem * rng.normal(size=(1, P))
        + noise * rng.normal(size=(S, P))
    )


@pytest.mark.parametrize("parts", [(1.0, 0.1, 0.1), (0.02, 1.0, 0.1), (0.1, 0.6, 0.3)])
def test_five_seeds_and_their_problems_cover(parts):
    rng, hits = np.random.default_rng(5), 0
    for i in range(150):
        low, high = spread(drawn(rng, 5, 40, *parts).tolist(), seed=i).interval()
        hits += low <= 0.5 <= high
    assert 0.90 < hits / 150 <= 0.995


def test_shared_problems_are_drawn_once_for_all_seeds():
    """Hard and easy problems are the same for every seed: more seeds make the mean no surer than one would."""
    column = np.random.default_rng(6).normal(size=60)
    one, ten = spread([column.tolist()]), spread([column.tolist()] * 10)
    assert ten.error == pytest.approx(one.error, rel=0.05)
    assert one.error == pytest.approx(column.std() / sqrt(60), rel=0.05)
    assert (one.seeds, ten.seeds, ten.problems) == (1, 10, 60)


def test_pairs_take_out_how_hard_problems_are():
    rng = np.random.default_rng(7)
    hard = rng.normal(size=(1, 80))
    before, after = hard + 0.1 * rng.normal(size=(5, 80)), hard + 0.2 + 0.1 * rng.normal(size=(5, 80))
    difference = paired(before.tolist(), after.tolist())
    low, high = difference.interval()
    assert low < 0.2 < high and high - low < 0.1 and difference.p_value() < 1e-4
    assert spread(after.tolist()).error > 5 * difference.error


def test_the_p_value_is_the_level_whose_interval_ends_at_zero():
    found = spread((np.random.default_rng(8).normal(size=(5, 30)) + 0.25).tolist())
    low, _ = found.interval(1 - found.p_value())
    assert low == pytest.approx(0, abs=1e-9)


def test_equal_values_are_no_certainty():
    none = spread([[0.0] * 50] * 5)
    assert none.p_value() == 1.0 and none.interval() == pytest.approx((-wilson(0, 50)[1], wilson(0, 50)[1]))
    every = paired([[0.0] * 50] * 5, [[1.0] * 50] * 5)
    assert every.mean == 1 and every.p_value() == 0 and 0.85 < every.interval()[0] < 0.9


def test_a_score_stays_within_its_range():
    never = spread([[0.0] * 50] * 5, (0, 1))
    assert never.interval() == pytest.approx((0, wilson(0, 50)[1]))
    nearly = spread([[1.0] * 9 + [0.0], [1.0] * 10], (0, 1))
    assert nearly.interval()[1] == 1.0 and spread([[1.0] * 9 + [0.0], [1.0] * 10]).interval()[1] > 1.0


def test_the_same_numbers_give_the_same_interval():
    values = np.random.default_rng(9).random((3, 20)).tolist()
    assert spread(values, seed=1) == spread(values, seed=1) != spread(values, seed=2)


def test_mistakes_are_named():
    for bad in ([], [[]], [[1.0], [1.0, 2.0]]):
        with pytest.raises(ValueError, match="as many numbers for each seed"):
            spread(bad)
    with pytest.raises(ValueError, match="finite"):
        spread([[float("nan")]])
    with pytest.raises(ValueError, match=r"\(1, 2\) seeds and problems before but \(2, 2\) after"):
        paired([[0, 1]], [[0, 1], [0, 1]])
