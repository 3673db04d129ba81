"""Least squares without negative coefficients: what is there is found, and nothing below zero."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.policy.nonnegative_fit import NonNegativeFit


def test_coefficients_that_made_the_values_are_found():
    fit = NonNegativeFit(3, memory=1_000)
    for n in range(50):
        terms = (1.0, n % 7, n % 5)
        fit.add(terms, 4 + 2 * terms[1] + 0.5 * terms[2])
    assert fit.coefficients == pytest.approx((4, 2, 0.5), rel=1e-6)
    assert fit.of((2, 1, 2)) == pytest.approx(11)


def test_what_would_be_negative_is_zero_and_the_others_fit_best_without_it():
    """3a + 1 and b below zero: the best line through the origin is left."""
    fit = NonNegativeFit(2, memory=1_000)
    for n in range(1, 40):
        fit.add((n, 1), 3 * n - 1)
    slope, offset = fit.coefficients
    assert offset == 0
    assert 2.5 < slope < 3


def test_terms_that_come_together_share_what_they_make():
    fit = NonNegativeFit(2, memory=1_000)
    for _ in range(20):
        fit.add((1, 1), 10)
    assert fit.of((1, 1)) == pytest.approx(10)


def test_a_term_that_was_never_seen_is_as_expected():
    fit = NonNegativeFit(2, memory=1_000)
    fit.expect((5, 5), (0.01, 0.01))
    for _ in range(50):
        fit.add((2, 0), 16)
    assert fit.coefficients == pytest.approx((8, 5), rel=1e-2)


def test_old_observations_fade():
    fit = NonNegativeFit(1, memory=20)
    for value in [10] * 100 + [30] * 100:
        fit.add((1,), value)
    assert fit.coefficients[0] == pytest.approx(30, rel=0.05)


def test_an_observation_weighs_by_its_relative_error():
    """A first pass of 1,000 ms among passes of 10 ms moves the figure by less than one of them would."""
    fit = NonNegativeFit(1, memory=1_000)
    fit.add((1,), 1_000)
    for _ in range(40):
        fit.add((1,), 10)
    assert fit.coefficients[0] == pytest.approx(10, rel=0.01)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e3), st.floats(0, 1e3), st.floats(1e-3, 1e6)), min_size=1, max_size=20))
def test_coefficients_are_never_negative_nor_nan(observations):
    fit = NonNegativeFit(2, memory=50)
    for first, second, value in observations:
        fit.add((first, second), value)
        assert all(each >= 0 for each in fit.coefficients)
