"""Means and their intervals, against SciPy."""

import numpy as np
import pytest
from scipy import stats

from speechft.tables.estimate import Estimate

RNG = np.random.default_rng(0)
FIRST, SECOND = tuple(RNG.normal(5, 1, 5)), tuple(RNG.normal(3, 4, 3))


def test_one_sample_is_a_mean_with_students_t():
    low, high = stats.t.interval(0.95, len(FIRST) - 1, np.mean(FIRST), stats.sem(FIRST))
    estimate = Estimate((FIRST,))
    assert (estimate.mean - estimate.half_width, estimate.mean + estimate.half_width) == pytest.approx((low, high))


def test_a_difference_is_welchs():
    interval = stats.ttest_ind(FIRST, SECOND, equal_var=False).confidence_interval(0.95)
    estimate = Estimate((FIRST,)) - Estimate((SECOND,))
    assert (estimate.mean - estimate.half_width, estimate.mean + estimate.half_width) == pytest.approx((interval.low, interval.high))


def test_a_sample_of_one_value_is_exact():
    assert Estimate(((1.0,), (2.0,))).half_width is None
    assert Estimate((FIRST, (10.0,))).half_width == Estimate((FIRST,)).half_width
    assert Estimate((FIRST, (10.0,))).mean == pytest.approx(np.mean(FIRST) + 10)


def test_equal_values_have_no_width():
    assert Estimate(((3.0, 3.0), (1.0, 1.0, 1.0))).half_width == 0


def test_tiny_variances_do_not_vanish():
    small = Estimate((tuple(1e-100 * value for value in FIRST),))
    assert small.half_width == pytest.approx(1e-100 * Estimate((FIRST,)).half_width)


def test_intervals_of_sums_hold_what_they_promise():
    """Of many experiments with unequal spread and numbers of seeds about 95 % cover the truth."""
    covered = 0
    for _ in range(2000):
        samples = (tuple(RNG.normal(1, 2, 5)), tuple(RNG.normal(2, 1, 3)), tuple(RNG.normal(3, 3, 4)))
        estimate = Estimate(samples)
        covered += abs(estimate.mean - 6) <= estimate.half_width
    assert 0.93 < covered / 2000 < 0.98
