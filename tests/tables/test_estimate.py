"""Means and their intervals; tests of entries and differences compare them with SciPy."""

import numpy as np
import pytest

from speechft.tables.estimate import Estimate

RNG = np.random.default_rng(0)
FIRST = tuple(RNG.normal(5, 1, 5))


def test_a_sample_of_one_value_is_exact():
    assert Estimate(((1.0,), (2.0,))).half_width is None
    assert Estimate((FIRST, (10.0,))).half_width == Estimate((FIRST,)).half_width
    assert Estimate((FIRST, (10.0,))).mean == pytest.approx(np.mean(FIRST) + 10)


def test_equal_values_have_no_width_and_tiny_variances_do_not_vanish():
    assert Estimate(((3.0, 3.0), (1.0, 1.0, 1.0))).half_width == 0
    small = Estimate((tuple(1e-100 * value for value in FIRST),))
    assert small.half_width == pytest.approx(1e-100 * Estimate((FIRST,)).half_width)


def test_intervals_of_sums_hold_what_they_promise():
    """Of many experiments with unequal spread and numbers of seeds about 95 % cover the truth."""
    covered = 0
    for _ in range(2000):
        estimate = Estimate((tuple(RNG.normal(1, 2, 5)), tuple(RNG.normal(2, 1, 3)), tuple(RNG.normal(3, 3, 4))))
        covered += abs(estimate.mean - 6) <= estimate.half_width
    assert 0.93 < covered / 2000 < 0.98
