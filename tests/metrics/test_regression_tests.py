"""Tests of predictive distributions: statistics by hand, null laws by SciPy, directions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mcdrop.errors import RangeError
from mcdrop.metrics import (
    CalibrationTest,
    bias_test,
    coverage_test,
    pit,
    pit_normal,
    shape_test,
    width_test,
)
from mcdrop.metrics.regression_tests import _anderson_darling_p, most_significant

RNG = np.random.default_rng(0)
Z = RNG.normal(size=60)
U = stats.norm.cdf(Z)


def _pit(errors: np.ndarray, std: float = 1.0) -> np.ndarray:
    return np.asarray(pit_normal(np.zeros_like(errors), np.full_like(errors, std), errors))


def test_bias_is_the_z_test() -> None:
    found = bias_test(U)
    assert found.statistic == pytest.approx(Z.mean() * np.sqrt(60))
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(found.statistic)))
    assert bias_test(_pit(Z + 1)).direction == "too_low"
    assert bias_test(_pit(Z - 1)).direction == "too_high"
    # Targets at the medians of their predictions.
    centered = bias_test([0.5] * 4)
    assert (centered.statistic, centered.p_value, centered.direction) == (0.0, 1.0, "none")


def test_width_is_the_chi_square_test_of_the_variance() -> None:
    found = width_test(U)
    law, value = stats.chi2(59), 59 * Z.var(ddof=1)
    assert found.statistic == pytest.approx(Z.std(ddof=1))
    assert found.p_value == pytest.approx(2 * min(law.cdf(value), law.sf(value)))


@pytest.mark.parametrize(("factor", "direction"), [(2.0, "too_narrow"), (0.5, "too_wide")])
def test_width_names_the_factor_by_which_spreads_are_off(factor: float, direction: str) -> None:
    found = width_test(_pit(factor * RNG.normal(size=2000)))
    assert found.direction == direction
    assert found.p_value < 1e-6
    # The standard error of a standard deviation is factor / sqrt(2 N).
    assert found.statistic == pytest.approx(factor, rel=4 / np.sqrt(4000))


def test_constant_bias_is_not_taken_for_a_wrong_width() -> None:
    u = _pit(Z + 1)
    assert bias_test(u).p_value < 1e-9
    assert width_test(u).statistic == pytest.approx(Z.std(ddof=1))
    assert width_test(u).p_value == pytest.approx(width_test(U).p_value)


def test_shape_statistic_is_that_of_the_definition() -> None:
    x = np.sort((Z - Z.mean()) / Z.std(ddof=1))
    squared = sum(
        -(2 * i + 1) / 60 * (stats.norm.logcdf(x[i]) + stats.norm.logsf(x[59 - i]))
        for i in range(60)
    )
    theirs = float(squared) - 60
    assert shape_test(U).statistic == pytest.approx(theirs * (1 + 0.75 / 60 + 2.25 / 60**2))


@pytest.mark.parametrize(
    ("critical", "level"),
    [(0.561, 0.15), (0.631, 0.1), (0.752, 0.05), (0.873, 0.025), (1.035, 0.01)],
)
def test_shape_p_values_hit_the_published_critical_values(critical: float, level: float) -> None:
    # D'Agostino & Stephens (1986), table 4.7.
    assert _anderson_darling_p(critical) == pytest.approx(level, rel=0.03)


def test_shape_ignores_bias_and_width() -> None:
    assert shape_test(_pit(3 * Z + 2, std=1.5)).statistic == pytest.approx(shape_test(U).statistic)


def test_heavy_tails_and_skewness_are_named() -> None:
    t = stats.t(2.2).rvs(500, random_state=1)
    found = shape_test(_pit(t))
    assert (found.direction, found.p_value < 0.001) == ("heavy_tails", True)
    skewed = shape_test(_pit(RNG.exponential(size=500) - 1))
    assert (skewed.direction, skewed.p_value < 0.001) == ("skewed", True)
    flat = shape_test(_pit(RNG.uniform(-1.7, 1.7, size=500)))
    assert (flat.direction, flat.p_value < 0.001) == ("light_tails", True)


def test_few_rows_and_far_targets_say_no_more_than_they_can() -> None:
    assert width_test([0.4]).p_value == 1.0
    assert shape_test([0.1, 0.2, 0.9]).p_value == 1.0
    assert shape_test([0.5] * 9).p_value == 1.0
    for test in (bias_test, width_test):
        assert np.isfinite(test([0.0, 1.0, 0.5]).statistic)


def test_outputs_are_tested_one_by_one() -> None:
    good = stats.norm.cdf(RNG.normal(size=(50, 3)))
    u = np.concatenate([good, _pit(3 * RNG.normal(size=(50, 1)))], axis=1)
    for test in (bias_test, width_test, shape_test):
        each = [test(column).p_value for column in u.T]
        assert test(u).p_value == pytest.approx(min(1, 4 * min(each)))
    assert width_test(u).direction == "too_narrow"
    assert width_test(u).n == 50


def test_ensembles_are_tested_through_their_ranks() -> None:
    samples, y = RNG.normal(size=(20, 400)), RNG.normal(size=400)
    assert width_test(pit(samples, y)).p_value > 0.01
    assert width_test(pit(samples / 2, y)).direction == "too_narrow"
    assert width_test(pit(samples / 2, y)).p_value < 1e-6


def test_coverage_is_the_binomial_test_by_hand() -> None:
    # Of ten intervals at level 1/2 nine hold: P(K >= 9) = 11 / 1024.
    low, high, y = np.zeros(10), np.ones(10), np.full(10, 0.5)
    y[0] = 2.0
    found = coverage_test(low, high, y, level=0.5)
    assert found.p_value == pytest.approx(2 * 11 / 1024)
    assert (found.statistic, found.direction) == (0.9, "too_wide")
    assert coverage_test(low, high, y + 9, level=0.5).p_value == pytest.approx(2 / 1024)
    exact = coverage_test([0.0] * 2, [1.0] * 2, [0.5, 9.0], level=0.5)
    assert (exact.direction, exact.p_value) == ("none", 1.0)
    two = coverage_test(np.zeros((10, 2)), np.ones((10, 2)), np.stack([y, y], 1), level=0.5)
    assert two.p_value == pytest.approx(4 * 11 / 1024)


def test_calls_that_cannot_be_are_named() -> None:
    with pytest.raises(RangeError, match=r"width_test: expected `pit_values` to lie in \[0, 1\]"):
        width_test([1.5])
    with pytest.raises(RangeError, match=r"`level` to lie in \(0, 1\), but got 90"):
        coverage_test([0.0], [1.0], [0.5], level=90)


def test_the_smallest_of_several_p_values_is_adjusted_and_at_most_one() -> None:
    tests = [CalibrationTest(1.0, p_value, "overconfident", 10) for p_value in (0.9, 0.2, 0.6)]
    assert most_significant(tests).p_value == pytest.approx(0.6)
    assert most_significant(tests[::2]).p_value == 1.0


@pytest.mark.parametrize("a", [0.2, 0.34, 0.6])
def test_shape_p_values_go_on_where_their_formula_changes(a: float) -> None:
    below, above = (_anderson_darling_p(a + step) for step in (-1e-9, 1e-9))
    # Stephens's formulas meet to the third digit.
    assert below == pytest.approx(above, abs=4e-3)
    # The first formula holds down to 0, where nothing speaks against normal values.
    assert _anderson_darling_p(1e-6) == pytest.approx(1, abs=1e-5)


def test_eight_rows_have_a_shape_and_seven_have_none() -> None:
    pits = np.linspace(0.05, 0.95, 8)
    assert shape_test(pits).statistic > 0
    assert shape_test(pits[:7]).statistic == 0
    assert width_test(pits[:1]).p_value == 1


def test_targets_on_the_ends_of_their_interval_are_inside() -> None:
    test = coverage_test([0.0] * 4, [1.0] * 4, [0.0, 1.0, 0.0, 1.0], level=0.5)
    # All four are inside: 2 * (1 / 2)^4.
    assert test.direction == "too_wide"
    assert test.p_value == pytest.approx(0.125)
