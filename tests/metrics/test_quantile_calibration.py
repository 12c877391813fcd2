from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mcdrop.errors import RangeError
from mcdrop.metrics import (
    pit_normal,
    quantile_calibration_curve,
    quantile_calibration_error,
    tail_calibration_error,
)

VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


def test_shares_by_hand() -> None:
    # Levels 1/4, 1/2, 3/4; of {0, 1/4, 0.6, 1}: shares 1/2, 1/2, 3/4.
    # Depths |2u - 1| = 1, 1/2, 0.2, 1: shares 1/4, 1/2, 1/2.
    values = [0.0, 0.25, 0.6, 1.0]
    assert quantile_calibration_curve(values, n_levels=3).observed.tolist() == [0.5, 0.5, 0.75]
    inside = quantile_calibration_curve(values, n_levels=3, kind="interval")
    assert inside.observed.tolist() == [0.25, 0.5, 0.5]
    # Gaps 1/4, 0, 0.
    assert quantile_calibration_error(values, n_levels=3) == pytest.approx(0.25 / 3)
    assert quantile_calibration_error(values, n_levels=3, norm="l2") == pytest.approx(
        0.25 / math.sqrt(3)
    )
    assert quantile_calibration_error(values, n_levels=3, norm="max") == 0.25


def test_evenly_spread_values_are_calibrated() -> None:
    # k / 99 for k = 1 .. 99: the share at or below k / 99 is k / 99.
    values = np.arange(1, 100) / 99
    assert quantile_calibration_error(values, n_levels=98) == pytest.approx(0.0, abs=1e-15)


def test_forecast_too_high_has_targets_below_every_quantile() -> None:
    values = pit_normal(np.full(50, 9.0), np.ones(50), np.zeros(50))
    assert (quantile_calibration_curve(values).observed == 1.0).all()


def test_bias_cancels_in_intervals_of_a_wide_forecast_but_not_in_quantiles() -> None:
    # Targets N(1, 1) under a forecast N(0, sqrt 2): E (y - 0)^2 = 2 is right on average.
    y = np.random.default_rng(0).normal(1, 1, 5000)
    values = pit_normal(np.zeros(5000), np.full(5000, math.sqrt(2)), y)
    one_sided = quantile_calibration_error(values)
    assert quantile_calibration_error(values, kind="interval") < one_sided / 2


@given(st.lists(st.integers(0, 64), min_size=1, max_size=20))
def test_mirrored_values_have_the_same_interval_error(parts: list[int]) -> None:
    # Multiples of 1/64, so that 1 - u is exact.
    values = np.array(parts) / 64
    one = quantile_calibration_error(values, kind="interval", n_levels=7)
    assert quantile_calibration_error(1 - values, kind="interval", n_levels=7) == one


@given(VALUES)
def test_norms_are_ordered_and_the_curve_rises(values: list[float]) -> None:
    l1 = quantile_calibration_error(values, norm="l1")
    l2 = quantile_calibration_error(values, norm="l2")
    assert l1 <= l2 + 1e-12
    assert l2 <= quantile_calibration_error(values, norm="max") + 1e-12 <= 1
    assert (np.diff(quantile_calibration_curve(values).observed) >= 0).all()


def test_largest_gap_over_many_levels_is_the_kolmogorov_distance() -> None:
    values = np.random.default_rng(1).uniform(size=200) ** 2
    found = quantile_calibration_error(values, n_levels=20_000, norm="max")
    assert found == pytest.approx(stats.kstest(values, "uniform").statistic, abs=1e-3)


def test_intervals_are_wilsons() -> None:
    curve = quantile_calibration_curve([0.1, 0.3, 0.6, 0.9, 0.95], n_levels=1, level=0.9)
    want = stats.binomtest(2, 5).proportion_ci(0.9, method="wilson")
    assert (curve.low[0], curve.high[0]) == pytest.approx((want.low, want.high))
    assert curve.n == 5


def test_options_that_cannot_be_are_named() -> None:
    with pytest.raises(RangeError, match="`n_levels` to be an integer of at least 1"):
        quantile_calibration_error([0.5], n_levels=0)
    with pytest.raises(RangeError, match='`kind` to be one of "quantile", "interval"'):
        quantile_calibration_error([0.5], kind="central")  # type: ignore[arg-type]
    with pytest.raises(RangeError, match='`norm` to be one of "l1"'):
        quantile_calibration_error([0.5], norm="mean")  # type: ignore[arg-type]
    with pytest.raises(RangeError, match="quantile_calibration_curve: expected `level`"):
        quantile_calibration_curve([0.5], level=0)


def test_tail_error_by_hand() -> None:
    # Of 20 values three lie in the lower tenth, one of them in its lower half: shares .05 and
    # .15 against .05 and .1. Of the upper tenth none: gaps .05 and .1.
    values = [0.03, 0.07, 0.08] + [0.5] * 17
    lower = tail_calibration_error(values, side="lower", n_levels=2)
    upper = tail_calibration_error(values, side="upper", n_levels=2)
    assert lower == pytest.approx((0.0 + 0.05) / 2 / 0.1)
    assert upper == pytest.approx((0.05 + 0.1) / 2 / 0.1)
    assert tail_calibration_error(values, n_levels=2) == pytest.approx((lower + upper) / 2)


def test_tails_that_are_too_light_show_where_the_whole_hardly_does() -> None:
    t = stats.t(3).rvs(4000, random_state=0) / math.sqrt(3)
    u = np.asarray(pit_normal(np.zeros(4000), np.ones(4000), t))
    rng = np.random.default_rng(0)
    # A calibrated forecast scores about sqrt(tail) / sqrt(N) / tail = .05.
    assert tail_calibration_error(rng.uniform(size=4000), tail=0.02) < 0.15
    assert tail_calibration_error(u, tail=0.002, side="upper") > 1.0


def test_tail_that_cannot_be_is_named() -> None:
    with pytest.raises(RangeError, match=r"`tail` to lie in \(0, 1/2\], but got 0.9"):
        tail_calibration_error([0.5], tail=0.9)
    with pytest.raises(RangeError, match='`side` to be one of "lower", "upper", "both"'):
        tail_calibration_error([0.5], side="left")  # type: ignore[arg-type]
