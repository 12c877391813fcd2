from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mcdrop.errors import RangeError, ShapeError
from mcdrop.metrics import entropy_calibration_error, error_rate_curve

RNG = np.random.default_rng(0)


def test_bins_by_hand() -> None:
    curve = error_rate_curve([0.4, 0.1, 0.3, 0.2, 0.5], [1, 0, 0, 1, 1], n_bins=2)
    # Sorted errors 0, 1, 0 | 1, 1, of mean uncertainty 0.2 and 0.45.
    assert curve.error_rate.tolist() == pytest.approx([1 / 3, 1.0])
    assert curve.uncertainty.tolist() == pytest.approx([0.2, 0.45])
    assert curve.count.tolist() == [3, 2]
    assert curve.edges.tolist() == [0.1, 0.3, 0.5]
    want = stats.binomtest(1, 3).proportion_ci(method="wilson")
    assert (curve.low[0], curve.high[0]) == pytest.approx((want.low, want.high))


def test_error_rate_rises_where_uncertainty_ranks_errors() -> None:
    u = RNG.uniform(size=20_000)
    curve = error_rate_curve(u, RNG.uniform(size=20_000) < u)
    assert (np.diff(curve.error_rate) > 0).all()
    np.testing.assert_allclose(curve.error_rate, curve.uncertainty, atol=0.05)


def test_equal_uncertainty_shares_its_errors() -> None:
    curve = error_rate_curve([1.0] * 6, [1, 1, 1, 0, 0, 0], n_bins=3)
    assert curve.error_rate.tolist() == pytest.approx([0.5] * 3)


def test_empty_bins_are_nan() -> None:
    curve = error_rate_curve([0.1], [1], n_bins=2)
    np.testing.assert_array_equal(curve.error_rate, [1.0, np.nan])


def test_entropy_against_errors_by_hand() -> None:
    # Bins of H: 0 with error rate 1/2 (two rows), 1 with error rate 1/2 (two rows).
    probs = [[1.0, 0.0], [1.0, 0.0], [0.5, 0.5], [0.5, 0.5]]
    assert entropy_calibration_error(probs, [0, 1, 0, 1]) == pytest.approx(0.5)
    # 0.9 gives H = -(0.9 log 0.9 + 0.1 log 0.1) / log 2.
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / math.log(2)
    found = entropy_calibration_error([[0.9, 0.1]] * 10, [0] * 9 + [1])
    assert found == pytest.approx(entropy - 0.1)


def test_mass_bins_differ_from_width_bins_only_in_the_binning() -> None:
    probs, y = RNG.dirichlet(np.ones(3), 100), RNG.integers(0, 3, 100)
    one = entropy_calibration_error(probs, y, n_bins=1)
    assert entropy_calibration_error(probs, y, n_bins=1, binning="quantile") == pytest.approx(one)
    assert entropy_calibration_error(probs, y) >= one - 1e-12


def test_input_that_cannot_be_is_named() -> None:
    with pytest.raises(
        RangeError, match=r"`is_error` to hold class indices from 0 to 1, but got 2"
    ):
        error_rate_curve([0.1], [2])
    with pytest.raises(ShapeError, match=r"`uncertainty` to have shape \(1,\) to match `is_error`"):
        error_rate_curve([0.1, 0.2], [1])
    with pytest.raises(RangeError, match="entropy_calibration_error: expected `n_bins`"):
        entropy_calibration_error([[0.5, 0.5]], [0], n_bins=0)
