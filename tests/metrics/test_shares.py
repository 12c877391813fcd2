"""Shares of rows: intervals against SciPy, their definitions and enumeration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mcdrop.errors import NonFiniteError, RangeError, ShapeError
from mcdrop.metrics import accuracy, bootstrap, share_difference, share_interval, wilson_interval


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 20), (3, 7), (20, 20), (199, 200)])
def test_scipy_gives_the_same_wilson_interval(k: int, n: int, level: float) -> None:
    theirs = stats.binomtest(k, n).proportion_ci(level, method="wilson")
    assert wilson_interval(k, n, level=level) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_ends_solve_the_score_equation() -> None:
    # |k/n - p| = z sqrt(p (1 - p) / n) at both ends.
    z = stats.norm.ppf(0.975)
    for end in wilson_interval(13, 40):
        assert abs(13 / 40 - end) == pytest.approx(z * math.sqrt(end * (1 - end) / 40))


def test_arrays_broadcast_and_empty_bins_are_nan() -> None:
    low, high = wilson_interval(np.array([0.0, 2.0]), np.array([0.0, 2.0]))
    assert np.isnan([low[0], high[0]]).all()
    assert high[1] == 1.0
    low, high = wilson_interval(np.array([1, 2, 3]), 3)
    assert low.shape == high.shape == (3,)
    assert (np.diff(low) > 0).all()


def test_shares_in_place_of_counts_are_refused() -> None:
    with pytest.raises(
        RangeError, match=r"`successes` to lie in \[0, n\], but got 7\. Pass the num"
    ):
        wilson_interval(7, 5)
    with pytest.raises(RangeError, match=r"`level` to lie in \(0, 1\), but got 95"):
        wilson_interval(3, 5, level=95)


@pytest.mark.parametrize(("k", "n"), [(0, 4), (3, 7), (20, 20), (197, 200)])
def test_scipy_gives_the_same_exact_interval(k: int, n: int) -> None:
    found = share_interval([1] * k + [0] * (n - k), level=0.9)
    theirs = stats.binomtest(k, n).proportion_ci(0.9, method="exact")
    assert (found.value, found.n) == (k / n, n)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("n", "p"), [(20, 0.95), (50, 0.99), (200, 0.99), (10, 0.5)])
def test_exact_interval_covers_with_at_least_its_level_by_summation(n: int, p: float) -> None:
    covered = 0.0
    for k in range(n + 1):
        found = share_interval([1] * k + [0] * (n - k))
        covered += stats.binom(n, p).pmf(k) * (found.low <= p <= found.high)
    assert covered >= 0.95


def test_accuracy_of_few_right_rows_has_width() -> None:
    probs = np.tile([0.95, 0.05], (20, 1))
    found = bootstrap(accuracy, probs, np.zeros(20, int))
    # The smallest p whose 20th power is 2.5 %.
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 20))


def test_outputs_of_a_row_count_as_one_row() -> None:
    hits = np.array([[1, 1], [1, 0], [0, 0], [1, 1]])
    found = share_interval(hits)
    assert (found.value, found.n) == (0.625, 4)
    assert found.low < share_interval(hits.ravel()).low


def _tango_by_grid(b: int, c: int, n: int) -> tuple[float, float]:
    """Invert the score statistic, with q by maximizing the likelihood on a grid."""
    q = np.linspace(1e-9, 1, 4001)
    kept = []
    for d in np.linspace(-0.999, 0.999, 1999):
        both = 1 - 2 * q - d
        inside = (q + d > 1e-12) & (both > 1e-12)
        with np.errstate(invalid="ignore", divide="ignore"):
            likelihood = c * np.log(q) + b * np.log(q + d) + (n - b - c) * np.log(both)
        best = q[inside][np.argmax(likelihood[inside])]
        if (b - c - n * d) ** 2 <= 1.959964**2 * n * (2 * best + d - d**2):
            kept.append(d)
    return min(kept), max(kept)


@pytest.mark.parametrize(("b", "c", "n"), [(5, 1, 20), (0, 3, 30), (12, 9, 40)])
def test_difference_inverts_the_score_statistic(b: int, c: int, n: int) -> None:
    first = np.repeat([1, 0, 1], [b, c, n - b - c])
    second = np.repeat([0, 1, 1], [b, c, n - b - c])
    found = share_difference(first, second)
    assert found.value == pytest.approx((b - c) / n)
    # The grid has steps of 0.001.
    assert (found.low, found.high) == pytest.approx(_tango_by_grid(b, c, n), abs=0.002)


@pytest.mark.parametrize(("b", "c"), [(4, 0), (3, 0), (7, 1), (9, 2), (9, 3), (10, 3)])
def test_zero_is_left_out_exactly_where_mcnemar_rejects(b: int, c: int) -> None:
    first, second = np.repeat([1, 0, 1], [b, c, 25]), np.repeat([0, 1, 1], [b, c, 25])
    found = share_difference(first, second)
    assert (found.low > 0) == ((b - c) ** 2 / (b + c) > stats.chi2(1).ppf(0.95))


def test_swapping_turns_the_difference_around() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, (2, 30))
    one, two = share_difference(a, b), share_difference(b, a)
    assert (one.low, one.high) == pytest.approx((-two.high, -two.low))


def test_equal_and_opposite_rows() -> None:
    z2 = stats.norm.ppf(0.975) ** 2
    same = share_difference([1] * 20, [1] * 20)
    assert same.value == 0.0
    assert same.high == pytest.approx(z2 / (20 + z2))
    opposite = share_difference([1] * 20, [0] * 20)
    assert (opposite.value, opposite.high) == (1.0, 1.0)
    assert 0 < opposite.low < 1


def test_hits_that_cannot_be_are_named() -> None:
    with pytest.raises(RangeError, match=r"share_interval: expected `hits` to lie in \[0, 1\]"):
        share_interval([0, 2])
    with pytest.raises(ShapeError, match=r"`hits_b` to have shape \(2,\) to match `hits_a`"):
        share_difference([0, 1], [1])
    with pytest.raises(NonFiniteError, match="`hits` to hold finite numbers"):
        share_interval([np.nan])


def test_standard_error_of_a_difference_by_hand() -> None:
    # Differences of 1 three times, -1 once and 0 six times: mean 0.2, mean square 0.4.
    first, second = np.repeat([1, 0, 1], [3, 1, 6]), np.repeat([0, 1, 1], [3, 1, 6])
    expected = (0.4 - 0.2**2) ** 0.5 / 10**0.5
    assert share_difference(first, second).standard_error == pytest.approx(expected)
