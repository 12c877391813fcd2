from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcdrop.errors import RangeError
from mcdrop.metrics import expected_normalized_calibration_error as ence
from mcdrop.metrics import uncertainty_calibration_error as uce
from tests.metrics import oracles

RNG = np.random.default_rng(0)
STD = RNG.uniform(0.2, 2, 100)
MEAN, Y = RNG.normal(size=100), RNG.normal(size=100)
SQUARED = (MEAN - Y) ** 2


def test_two_bins_by_hand() -> None:
    # Variances 1, 1 | 9, 9 with squared errors 4, 4 | 9, 9.
    std, error = [1.0, 1.0, 3.0, 3.0], [2.0, -2.0, 3.0, 3.0]
    zeros = [0.0] * 4
    # ENCE: (|1 - 2| / 1 + |3 - 3| / 3) / 2; UCE: (|4 - 1| + |9 - 9|) / 2.
    assert ence(zeros, std, error, n_bins=2) == pytest.approx(0.5)
    assert uce(zeros, std, error, n_bins=2) == pytest.approx(1.5)


def test_loops_give_the_same() -> None:
    variance = STD**2
    equal_mass = oracles.equal_mass_rows(variance.tolist(), 7)
    bins = oracles.binned_spread(variance, SQUARED, equal_mass)
    want = np.mean([abs(math.sqrt(v) - math.sqrt(e)) / math.sqrt(v) for _, v, e in bins])
    assert ence(MEAN, STD, Y, n_bins=7) == pytest.approx(want)
    scaled = (variance - variance.min()) / (variance.max() - variance.min())
    bins = oracles.binned_spread(variance, SQUARED, oracles.bin_rows(scaled.tolist(), 7))
    gaps = [n / 100 * abs(v - e) for n, v, e in bins]
    assert uce(MEAN, STD, Y, n_bins=7) == pytest.approx(sum(gaps))


def test_calibrated_spread_scores_near_zero_and_half_the_spread_does_not() -> None:
    std = np.random.default_rng(1).uniform(0.5, 3, 50_000)
    y = np.random.default_rng(2).normal(0, std)
    zeros = np.zeros_like(y)
    # RMSE of 3333 rows has a relative standard error of 1 / sqrt(2 * 3333) = 0.012.
    assert ence(zeros, std, y) < 0.03
    # |std / 2 - std| / (std / 2) = 1.
    assert ence(zeros, std / 2, y) == pytest.approx(1.0, abs=0.05)


@given(st.floats(0.01, 100))
def test_units_cancel_in_ence_and_square_in_uce(scale: float) -> None:
    assert ence(scale * MEAN, scale * STD, scale * Y) == pytest.approx(ence(MEAN, STD, Y))
    assert uce(scale * MEAN, scale * STD, scale * Y, binning="quantile") == pytest.approx(
        scale**2 * uce(MEAN, STD, Y, binning="quantile")
    )


def test_one_spread_for_all_rows_is_one_bin() -> None:
    std = np.full(100, 0.5)
    want = abs(0.5 - math.sqrt(SQUARED.mean())) / 0.5
    for n_bins in (1, 15):
        assert ence(MEAN, std, Y, n_bins=n_bins) == pytest.approx(want)
        assert uce(MEAN, std, Y, n_bins=n_bins) == pytest.approx(abs(SQUARED.mean() - 0.25))


def test_order_of_rows_changes_nothing() -> None:
    std = np.round(STD, 1)
    order = RNG.permutation(100)
    one = ence(MEAN, std, Y, n_bins=6)
    assert ence(MEAN[order], std[order], Y[order], n_bins=6) == pytest.approx(one, rel=1e-12)


def test_outputs_are_pooled() -> None:
    def square(a: np.ndarray) -> np.ndarray:
        return a.reshape(50, 2)

    assert ence(square(MEAN), square(STD), square(Y)) == pytest.approx(ence(MEAN, STD, Y))


def test_spread_of_zero_is_refused_where_it_divides() -> None:
    assert uce([0.0], [0.0], [2.0]) == 4.0
    with pytest.raises(RangeError, match="expected_normalized_calibration_error: expected `std`"):
        ence([0.0], [0.0], [2.0])
    with pytest.raises(RangeError, match='`binning` to be one of "uniform", "quantile"'):
        uce(MEAN, STD, Y, binning="width")  # type: ignore[arg-type]
    with pytest.raises(RangeError, match="`n_bins` to be an integer"):
        ence(MEAN, STD, Y, n_bins=True)


def test_empty_bins_do_not_count() -> None:
    # Of four bins of variance from 1 to 4 two are empty; the errors 1 and 3 are off by 0 and by
    # half of the stated 2, and in squares by 0 and 9 - 4.
    given = [0.0, 0.0], [1.0, 2.0], [1.0, 3.0]
    assert ence(*given, n_bins=4, binning="uniform") == pytest.approx(0.5 / 2)
    assert uce(*given, n_bins=4) == pytest.approx(5 / 2)
