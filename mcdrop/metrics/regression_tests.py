"""Tests that predictive distributions are calibrated: bias, width, shape and coverage.

Bias, width and shape are judged from z = Phi^-1(PIT), independent standard normal if targets are
drawn from the stated distributions. Mean and sample variance of normal z are independent, so a
bias is not taken for a wrong width, and shape is judged after both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from mcdrop.checks import require_unit
from mcdrop.metrics._arrays import ArrayLike, Float64, float64, take
from mcdrop.metrics._reduction import Reduction, finished
from mcdrop.metrics.calibration_tests import CalibrationTest, Direction
from mcdrop.metrics.intervals import take_interval
from mcdrop.metrics.pit import take_pit


@finished
def bias_test(pit_values: ArrayLike) -> Reduction[CalibrationTest]:
    """Exact test that predictions are neither too high nor too low.

    The statistic sqrt(N) mean(z), z = Phi^-1(PIT), is standard normal under the null
    hypothesis. Several outputs per row are tested one by one, and the smallest p-value is
    multiplied by their number (Bonferroni), which holds however they depend on each other.

    Args:
        pit_values: From `pit`, `pit_normal` or `pit_mixture`, shape (N,) or (N, D).

    Returns:
        The statistic with its p-value; "too_low" if targets lie above the predictions, "none" if
        the statistic is 0.

    Raises:
        ShapeError: If there are no values.
        RangeError: If a value lies outside [0, 1].
        NonFiniteError: If a value is NaN or infinite.

    Source:
        Berkowitz (2001), Testing density forecasts, with applications to risk management.

    Example:
        >>> from mcdrop.metrics import pit_normal
        >>> bias_test(pit_normal([0.0] * 4, [1.0] * 4, [0.0, 2.0, 2.0, 4.0])).statistic  # 2 * 2
        4.0
    """
    return _of_pit("bias_test", pit_values, _bias)


def _bias(z: Float64) -> CalibrationTest:
    from scipy.special import ndtr

    statistic = float(np.sqrt(z.size) * z.mean())
    p_value = float(2 * ndtr(-abs(statistic)))
    direction: Direction = "too_low" if statistic > 0 else "too_high"
    return CalibrationTest(statistic, p_value, "none" if statistic == 0 else direction, z.size)


@finished
def width_test(pit_values: ArrayLike) -> Reduction[CalibrationTest]:
    """Exact test that predictive distributions are neither too narrow nor too wide.

    With s the sample standard deviation of z = Phi^-1(PIT) about its mean, (N - 1) s^2 is
    chi-square of N - 1 degrees of freedom under the null hypothesis:
    p = min(1, 2 min(P(<=), P(>=))). A constant bias leaves s unchanged. Outputs as in
    `bias_test`.

    Args:
        pit_values: From `pit`, `pit_normal` or `pit_mixture`, shape (N,) or (N, D).

    Returns:
        s, the factor by which standard deviations of normal predictions would have to grow,
        with its p-value; "too_narrow" if s > 1. A single row says nothing: p-value 1.

    Raises:
        ShapeError: If there are no values.
        RangeError: If a value lies outside [0, 1].
        NonFiniteError: If a value is NaN or infinite.

    Source:
        Berkowitz (2001); the chi-square law of a normal sample variance: Fisher (1925).

    Example:
        >>> from mcdrop.metrics import pit_normal
        >>> test = width_test(pit_normal([0.0] * 3, [1.0] * 3, [-5.0, 0.0, 5.0]))
        >>> round(test.statistic, 6), test.direction, round(test.p_value, 10)  # 2 exp(-50 / 2)
        (5.0, 'too_narrow', 0.0)
    """
    return _of_pit("width_test", pit_values, _width)


def _width(z: Float64) -> CalibrationTest:
    from scipy.special import chdtr, chdtrc

    if z.size < 2:
        return CalibrationTest(1.0, 1.0, "none", z.size)
    variance, free = float(z.var(ddof=1)), z.size - 1
    tails = chdtr(free, free * variance), chdtrc(free, free * variance)
    direction: Direction = "too_narrow" if variance > 1 else "too_wide"
    return CalibrationTest(
        float(np.sqrt(variance)), min(1.0, 2 * float(min(tails))), direction, z.size
    )


@finished
def shape_test(pit_values: ArrayLike) -> Reduction[CalibrationTest]:
    """Test that predictive distributions have the right shape, whatever their bias and width.

    The Anderson-Darling statistic of (z - mean z) / s against the normal distribution,
    A^2 = -N - (1 / N) sum_i (2 i - 1) (log Phi(x_(i)) + log Phi(-x_(N + 1 - i))), times
    1 + 0.75 / N + 2.25 / N^2. Targets with heavier tails than stated are found here even where
    the stated variance is right. Outputs as in `bias_test`.

    Args:
        pit_values: From `pit`, `pit_normal` or `pit_mixture`, shape (N,) or (N, D).

    Returns:
        The statistic with its p-value, an approximation that is accurate from N = 8 on; below
        it the p-value is 1. Direction: "skewed", "heavy_tails" or "light_tails", by the larger
        of L-skewness and excess L-kurtosis of z in their standard errors.

    Raises:
        ShapeError: If there are no values.
        RangeError: If a value lies outside [0, 1].
        NonFiniteError: If a value is NaN or infinite.

    Source:
        Anderson & Darling (1954); with estimated mean and variance: Stephens, in D'Agostino &
        Stephens (1986), Goodness-of-fit techniques, table 4.9; L-moments: Hosking (1990).

    Example:
        >>> shape_test([(i + 0.5) / 100 for i in range(100)]).p_value > 0.99  # normal z
        True
    """
    return _of_pit("shape_test", pit_values, _shape)


def _shape(z: Float64) -> CalibrationTest:
    from scipy.special import log_ndtr

    n = z.size
    spread = float(z.std(ddof=1)) if n > 1 else 0.0
    if n < 8 or spread == 0:
        return CalibrationTest(0.0, 1.0, "none", n)
    x = np.sort((z - z.mean()) / spread)
    odd = np.arange(1, 2 * n, 2)
    squared = -n - float((odd * (log_ndtr(x) + log_ndtr(-x[::-1]))).sum()) / n
    squared *= 1 + 0.75 / n + 2.25 / n**2
    return CalibrationTest(squared, _anderson_darling_p(squared), _shape_direction(x), n)


def _shape_direction(x: Float64) -> Direction:
    """Name the larger of L-skewness and excess L-kurtosis of sorted values, in standard errors."""
    n = x.size
    below, b = np.arange(n), [x.mean()]
    weight = np.ones(n)
    for r in range(1, 4):
        weight = weight * (below - r + 1) / (n - r)
        b.append((weight * x).mean())
    scale = 2 * b[1] - b[0]
    skewness = (6 * b[2] - 6 * b[1] + b[0]) / scale
    kurtosis = (20 * b[3] - 30 * b[2] + 12 * b[1] - b[0]) / scale
    # Normal values: L-kurtosis 0.1226, variances 0.1866 / N and 0.0883 / N (Hosking 1990).
    excess = (kurtosis - 0.1226) / 0.0883**0.5
    if abs(skewness) / 0.1866**0.5 > abs(excess):
        return "skewed"
    return "heavy_tails" if excess > 0 else "light_tails"


def _anderson_darling_p(a: float) -> float:
    """Upper tail of the corrected A^2 with estimated mean and variance (Stephens 1986)."""
    if a < 0.2:
        return float(-np.expm1(-13.436 + 101.14 * a - 223.73 * a**2))
    if a < 0.34:
        return float(-np.expm1(-8.318 + 42.796 * a - 59.938 * a**2))
    if a < 0.6:
        return float(np.exp(0.9177 - 4.279 * a - 1.38 * a**2))
    # The quadratic turns upward far in the tail, where p is below 1e-24.
    a = min(a, 10.0)
    return float(np.exp(1.2937 - 5.709 * a + 0.0186 * a**2))


def _of_pit(
    function: str, pit_values: ArrayLike, test: Callable[[Float64], CalibrationTest]
) -> Reduction[CalibrationTest]:
    """Reduce to PIT values (D, N), one row of them per output."""
    flat = take_pit(function, pit_values)
    _, (values,) = take(function, pit_values=pit_values)
    columns = flat.reshape(len(values), -1).T
    return Reduction(columns, partial(_over_outputs, test=test), additive=False)


def _over_outputs(columns: Float64, test: Callable[[Float64], CalibrationTest]) -> CalibrationTest:
    from scipy.special import ndtri

    # Exact 0 and 1 come from rounding of the distribution function, not from the distribution.
    z = ndtri(np.clip(columns, np.finfo(float).tiny, 1 - np.finfo(float).epsneg))
    return most_significant([test(output) for output in z])


def most_significant(tests: list[CalibrationTest]) -> CalibrationTest:
    """Return the test with the smallest p-value, which is multiplied by the number of tests."""
    best = min(tests, key=lambda one: one.p_value)
    p_value = min(1.0, len(tests) * best.p_value)
    return CalibrationTest(best.statistic, p_value, best.direction, best.n)


@finished
def coverage_test(
    lower: ArrayLike, upper: ArrayLike, y: ArrayLike, *, level: float
) -> Reduction[CalibrationTest]:
    """Exact test that intervals hold as many targets as they claim.

    The number K of targets inside is binomial(N, level) under the null hypothesis:
    p = min(1, 2 min(P(K <= k), P(K >= k))). Outputs as in `bias_test`.

    Args:
        lower: Lower ends, shape (N,) or (N, D), units of y.
        upper: Upper ends, same shape.
        y: Targets, same shape.
        level: Coverage that the intervals claim, in (0, 1).

    Returns:
        The share of targets inside with its p-value; "too_narrow" if it is below `level`.

    Raises:
        ShapeError: If the shapes differ or hold no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If `level` lies outside (0, 1) or an interval is crossed.

    Source:
        Kupiec (1995), Techniques for verifying the accuracy of risk measurement models, with
        the exact binomial distribution; Clopper & Pearson (1934).

    Example:
        >>> test = coverage_test([0.0] * 5, [1.0] * 5, [2.0] * 5, level=0.5)
        >>> test.direction, test.p_value  # 2 * (1/2)^5
        ('too_narrow', 0.0625)
    """
    require_unit("coverage_test", "level", level)
    _, low, high, target = take_interval("coverage_test", lower, upper, y)
    inside = float64(((low <= target) & (target <= high)).double())
    columns = inside.reshape(len(inside), -1).T
    return Reduction(columns, partial(_covered, level=level), additive=False)


def _covered(columns: Float64, level: float) -> CalibrationTest:
    from scipy.special import bdtr, bdtrc

    tests, n = [], columns.shape[1]
    for k in columns.sum(axis=1):
        above = 1.0 if k == 0 else float(bdtrc(k - 1, n, level))
        p_value = min(1.0, 2 * min(float(bdtr(k, n, level)), above))
        share = float(k / n)
        direction: Direction = "too_narrow" if share < level else "too_wide"
        tests.append(CalibrationTest(share, p_value, "none" if share == level else direction, n))
    return most_significant(tests)
