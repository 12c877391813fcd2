"""Means of scores: closed forms, invariances and the cases each half of the interval is for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mcdrop.errors import NonFiniteError, ShapeError
from mcdrop.metrics import mean_difference, mean_interval
from mcdrop.metrics.means import root_estimate

RNG = np.random.default_rng(0)
SKEWED = RNG.exponential(size=30)


def test_scores_without_skewness_get_the_t_interval() -> None:
    scores = np.concatenate([SKEWED, -SKEWED])
    found = mean_interval(scores, level=0.9)
    want = stats.t(59, scale=scores.std(ddof=1) / np.sqrt(60)).interval(0.9)
    assert (found.low, found.high) == pytest.approx(want)
    assert found.standard_error == pytest.approx(scores.std(ddof=1) / np.sqrt(60))


def test_upper_end_undoes_the_published_transformation() -> None:
    # Hall (1992): W + g W^2 / 3 + g^2 W^3 / 27 + g / (6 N) = -t / sqrt(N) at the upper end.
    found = mean_interval(SKEWED)
    spread = SKEWED.std(ddof=1)
    g = float((((SKEWED - SKEWED.mean()) / spread) ** 3).mean())
    w = (found.value - found.high) / spread
    left = w + g * w**2 / 3 + g**2 * w**3 / 27 + g / 180
    assert left == pytest.approx(-stats.t(29).ppf(0.975) / np.sqrt(30))
    # Right skewness: the lower end is that of Student's t.
    want = SKEWED.mean() - stats.t(29).ppf(0.975) * spread / np.sqrt(30)
    assert found.low == pytest.approx(want)


def test_shifting_scaling_and_turning_around() -> None:
    one = mean_interval(SKEWED)
    moved, turned = mean_interval(5 + 3 * SKEWED), mean_interval(-SKEWED)
    assert (moved.low, moved.high) == pytest.approx((5 + 3 * one.low, 5 + 3 * one.high))
    assert (turned.low, turned.high) == pytest.approx((-one.high, -one.low))


def test_equal_scores_are_identical_and_not_undecided() -> None:
    found = mean_difference(0.1 + SKEWED, 0.1 + SKEWED)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
    shifted = mean_difference(SKEWED + 0.1, SKEWED)
    assert shifted.low == pytest.approx(0.1)
    assert shifted.low > 0


def test_root_is_the_root_of_the_interval_of_the_squares() -> None:
    found, squares = root_estimate(SKEWED**2, 0.95), mean_interval(SKEWED**2)
    assert found.value == pytest.approx(np.sqrt(squares.value))
    assert found.high == pytest.approx(np.sqrt(squares.high))
    assert found.low == pytest.approx(np.sqrt(max(0.0, squares.low)))


def test_outputs_of_a_row_are_averaged_first() -> None:
    both = np.stack([SKEWED, 3 * SKEWED], axis=1)
    assert mean_interval(both) == mean_interval(both.mean(axis=1))


def test_calls_that_cannot_be_are_named() -> None:
    with pytest.raises(ShapeError, match="mean_interval: expected `scores` to hold several rows"):
        mean_interval([1.0])
    with pytest.raises(ShapeError, match=r"`scores_b` to have shape \(2,\) to match `scores_a`"):
        mean_difference([1.0, 2.0], [1.0])
    with pytest.raises(NonFiniteError, match="`scores` to hold finite numbers"):
        mean_interval([1.0, np.inf])


def test_standard_error_of_a_root_by_the_delta_method() -> None:
    squares = np.array([1.0, 4.0, 9.0, 16.0, 25.0])
    found = root_estimate(squares, 0.95)
    # The derivative of the root is 1 / (2 root).
    expected = squares.std(ddof=1) / 5**0.5 / (2 * squares.mean() ** 0.5)
    assert found.standard_error == pytest.approx(expected)
