"""Calibration errors and reliability curves against what a calibrated model would show."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from scipy import stats

from mcdrop.errors import RangeError
from mcdrop.metrics import (
    calibration_error_test,
    consistency_band,
    expected_calibration_error,
    reliability_curve,
)
from mcdrop.metrics._bins import membership, quantile_sums

RNG = np.random.default_rng(0)
P = np.round(RNG.uniform(size=80), 2)
Y = (RNG.uniform(size=80) < P).astype(int)


@pytest.mark.parametrize("binning", ["uniform", "quantile"])
@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_statistic_is_the_expected_calibration_error(
    norm: Literal["l1", "l2", "max"], binning: Literal["uniform", "quantile"]
) -> None:
    found = calibration_error_test(P, Y, norm=norm, binning=binning, kind="binary")
    want = expected_calibration_error(P, Y, norm=norm, binning=binning, kind="binary")
    assert found.statistic == pytest.approx(want)
    assert found.excess == pytest.approx(want - found.null_mean)


def test_null_distribution_of_one_bin_is_binomial() -> None:
    # 40 rows at 1/2: |K / 40 - 1/2| with K binomial(40, 1/2).
    found = calibration_error_test([0.5] * 40, [1] * 26 + [0] * 14, kind="binary", n_resamples=9999)
    law, k = stats.binom(40, 0.5), np.arange(41)
    mean = float((law.pmf(k) * abs(k / 40 - 0.5)).sum())
    # Four standard errors of 10^4 drawings.
    assert found.null_mean == pytest.approx(mean, abs=4 * 0.05 / 100)
    assert found.p_value == pytest.approx(2 * law.sf(25), abs=4 * 0.003)
    assert (found.null_low, found.null_high) == pytest.approx((0.0, 0.15), abs=0.026)


def test_ece_of_few_calibrated_rows_is_no_finding() -> None:
    p = RNG.uniform(0.5, 1, 50)
    y = RNG.uniform(size=50) < p
    found = calibration_error_test(p, y, kind="binary")
    assert found.statistic > 0.05
    assert found.null_low < found.statistic < found.null_high
    wrong = calibration_error_test(p, ~y, kind="binary")
    assert wrong.p_value == 0.001


def test_membership_counts_rows_as_the_sums_do() -> None:
    member = membership(P, n_bins=7, binning="quantile", dtype=torch.float64)
    sums, _ = quantile_sums(P, Y.astype(float), np.ones(80), 7)
    np.testing.assert_allclose(member.sum(axis=0), sums[0])
    np.testing.assert_allclose(Y @ member, sums[2])
    np.testing.assert_allclose(member.sum(axis=1), 1)


@pytest.mark.parametrize("binning", ["uniform", "quantile"])
def test_band_stands_on_the_bins_of_the_curve(binning: Literal["uniform", "quantile"]) -> None:
    curve = reliability_curve(P, Y, n_bins=6, binning=binning, kind="binary")
    band = consistency_band(P, Y, n_bins=6, binning=binning, kind="binary")
    np.testing.assert_allclose(band.confidence, curve.confidence)
    np.testing.assert_array_equal(band.count, curve.count)
    assert (band.low <= band.confidence).all()
    assert (band.confidence <= band.high).all()


def test_band_is_the_binomial_range() -> None:
    band = consistency_band([0.3] * 200, [0] * 200, n_bins=10, kind="binary", n_resamples=4999)
    want = np.array(stats.binom(200, 0.3).interval(0.95)) / 200
    assert (band.low[2], band.high[2]) == pytest.approx(tuple(want), abs=0.011)
    assert np.isnan(np.delete(band.low, 2)).all()


def test_simultaneous_band_is_wider_and_outcomes_do_not_enter() -> None:
    each = consistency_band(P, Y, n_bins=5, kind="binary")
    both = consistency_band(P, Y, n_bins=5, kind="binary", simultaneous=True)
    assert (both.low <= each.low).all()
    assert (both.high >= each.high).all()
    assert (both.high - both.low).sum() > (each.high - each.low).sum()
    other = consistency_band(P, 1 - Y, n_bins=5, kind="binary")
    np.testing.assert_array_equal(other.low, each.low)


def test_sure_predictions_leave_no_room() -> None:
    band = consistency_band([1.0] * 9, [1] * 9, kind="binary")
    assert (band.low[-1], band.high[-1]) == (1.0, 1.0)
    assert calibration_error_test([1.0] * 9, [1] * 9, kind="binary").p_value == 1.0


def test_options_that_cannot_be_are_named() -> None:
    with pytest.raises(RangeError, match='`kind` to be one of "top_label", "binary"'):
        calibration_error_test(P, Y, kind="classwise")  # type: ignore[arg-type]
    with pytest.raises(RangeError, match='`norm` to be one of "l1", "l2", "max"'):
        calibration_error_test(P, Y, kind="binary", norm="L1")  # type: ignore[arg-type]
    with pytest.raises(RangeError, match=r"consistency_band: expected `level` to lie in \(0, 1\)"):
        consistency_band(P, Y, kind="binary", level=95)


def test_nineteen_resamples_are_enough_for_a_level_of_95_percent() -> None:
    assert consistency_band([0.3] * 20, [0] * 20, kind="binary", n_resamples=19) is not None


def test_a_bin_of_one_row_counts_in_the_simultaneous_band() -> None:
    # Two bins of one row each, which goes the other way with chance 0.02: less than the tail of
    # 0.025 of one bin, and more than the 0.0125 that each of two may have.
    rows, chance = [0.02, 0.98], [0, 1]
    each = consistency_band(rows, chance, n_bins=2, kind="binary", n_resamples=9999)
    assert (each.low.tolist(), each.high.tolist()) == ([0.0, 1.0], [0.0, 1.0])
    both = consistency_band(
        rows, chance, n_bins=2, kind="binary", n_resamples=9999, simultaneous=True
    )
    assert (both.low.tolist(), both.high.tolist()) == ([0.0, 0.0], [1.0, 1.0])
