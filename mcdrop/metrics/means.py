"""Intervals of mean scores and their differences that hold at small numbers of rows."""

from __future__ import annotations

import math

import numpy as np

from mcdrop.checks import require_finite, require_rows, require_same_shape, require_unit
from mcdrop.errors import ShapeError
from mcdrop.metrics._arrays import ArrayLike, Float64, float64, row_means, take
from mcdrop.metrics.estimate import Estimate

METHOD = "skew-adjusted t"


def mean_interval(scores: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Mean of scores with an interval for small and skewed samples.

    Each end is the outer one of two: Student's t interval m -+ t s / sqrt(N), and the interval
    of Hall's transformation, which removes the skewness g of the studentized mean:
    m - s W(-+t / sqrt(N)) with W(u) = 3 ((1 + g (u - g / (6 N)))^(1/3) - 1) / g. The first holds
    for symmetric scores with heavy tails, such as differences of two models, the second for
    skewed ones, such as squared errors; neither holds for both.

    Args:
        scores: One score per row, shape (N,), or (N, D), whose mean over outputs counts.
        level: Coverage of the interval, in (0, 1).

    Returns:
        The mean with its interval; method "skew-adjusted t". No interval covers losses that
        are rarer than one in N: ten right predictions do not bound the cost of a wrong one.

    Raises:
        ShapeError: If there are fewer than 2 rows.
        NonFiniteError: If a score is NaN or infinite.
        RangeError: If `level` lies outside (0, 1).

    Source:
        Hall (1992), On the removal of skewness by transformation; Student (1908).

    Example:
        >>> print(mean_interval([-1.0, 0.0, 1.0]))  # no skewness: -+ 4.303 / sqrt(3)
        0.0 [-2.5, 2.5]
    """
    (rows,) = _take_scores("mean_interval", level, scores=scores)
    return mean_estimate(rows, level)


def mean_difference(scores_a: ArrayLike, scores_b: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Mean difference of two models' scores over the same rows: `mean_interval` of a - b.

    Args:
        scores_a: Scores of the first model, shape (N,) or (N, D).
        scores_b: Scores of the second, over the same rows.
        level: Coverage of the interval, in (0, 1).

    Returns:
        The difference with its interval; below 0 the first scores lower.

    Raises:
        ShapeError: If the two differ in shape, or there are fewer than 2 rows.
        NonFiniteError: If a score is NaN or infinite.
        RangeError: If `level` lies outside (0, 1).

    Source:
        As for `mean_interval`.

    Example:
        >>> mean_difference([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]).value
        -1.0
    """
    first, second = _take_scores("mean_difference", level, scores_a=scores_a, scores_b=scores_b)
    return mean_estimate(first - second, level)


def _take_scores(function: str, level: float, **scores: ArrayLike) -> list[Float64]:
    require_unit(function, "level", level)
    _, values = take(function, **scores)
    names = list(scores)
    for name, value in zip(names, values, strict=True):
        require_rows(function, name, value)
        require_same_shape(function, name, value, values[0], to=names[0])
        require_finite(function, axis=0, **{name: value})
        if len(value) < 2:
            remedy = "Score more rows"
            raise ShapeError.of(function, name, "hold several rows", "1 of them", remedy)
    return [float64(row_means(value)) for value in values]


def mean_estimate(rows: Float64, level: float) -> Estimate:
    """Interval of the mean of (N,)."""
    from scipy.special import stdtrit

    n, mean, spread = rows.size, float(rows.mean()), float(rows.std(ddof=1))
    error = spread / math.sqrt(n)
    # Equal rows differ by rounding only, from which no skewness can be computed.
    if spread <= 1e-13 * abs(mean):
        return Estimate(mean, mean, mean, error, level, n, METHOD)
    t = float(stdtrit(n - 1, (1 + level) / 2))
    skewness = float((((rows - mean) / spread) ** 3).mean())
    low, high = (mean - spread * _unskewed(u, skewness, n) for u in np.array([t, -t]) / n**0.5)
    low, high = min(low, mean - t * error), max(high, mean + t * error)
    return Estimate(mean, low, high, error, level, n, METHOD)


def _unskewed(u: float, skewness: float, n: int) -> float:
    """Inverse of Hall's cubic transformation at u."""
    if abs(skewness) < 1e-9:
        return u
    return float(3 * (np.cbrt(1 + skewness * (u - skewness / (6 * n))) - 1) / skewness)


def root_estimate(squares: Float64, level: float) -> Estimate:
    """Interval of the root of the mean of squares (N,), by the interval of their mean."""
    found = mean_estimate(squares, level)
    low, value, high = (math.sqrt(max(0.0, v)) for v in (found.low, found.value, found.high))
    error = found.standard_error / (2 * value) if value > 0 else 0.0
    return Estimate(value, low, high, error, level, found.n, METHOD)
