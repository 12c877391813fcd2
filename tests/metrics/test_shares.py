"""Shares of rows: Wilson's interval against SciPy and its own definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mcdrop.errors import RangeError
from mcdrop.metrics import wilson_interval


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
