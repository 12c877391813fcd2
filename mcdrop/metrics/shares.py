"""Intervals of shares of rows, which keep their width where a bootstrap has none."""

from __future__ import annotations

import math

import numpy as np

from mcdrop.checks import require_finite, require_rows, require_same_shape, require_unit
from mcdrop.errors import RangeError
from mcdrop.metrics._arrays import ArrayLike, Float64, float64, row_means, take
from mcdrop.metrics.estimate import Estimate


def wilson_interval(
    successes: ArrayLike | float, n: ArrayLike | float, *, level: float = 0.95
) -> tuple[Float64, Float64]:
    """Wilson interval of the probability behind a share of n independent rows.

    The probabilities p that a two-sided score test of k out of n does not reject,
    |k / n - p| <= z sqrt(p (1 - p) / n):
    (k + z^2 / 2 -+ z sqrt(k (n - k) / n + z^2 / 4)) / (n + z^2). Its coverage averages to the
    level over p and may be a few points below it at one p near 0 or 1: right for the points of
    a curve. `share_interval` never covers less than its level.

    Args:
        successes: Number k of successes, a number or an array; fractions are allowed, as for rows
            that share their outcomes.
        n: Number of rows, broadcast against `successes`.
        level: Coverage of the interval, in (0, 1).

    Returns:
        Lower and upper ends, in [0, 1]; NaN where n is 0.

    Raises:
        RangeError: If `level` lies outside (0, 1), or `successes` outside [0, n].

    Source:
        Wilson (1927); its coverage for small n: Brown, Cai & DasGupta (2001).

    Example:
        >>> low, high = wilson_interval(20, 20)
        >>> round(float(low), 3), float(high)  # 20 / (20 + 1.96^2)
        (0.839, 1.0)
    """
    from scipy.special import ndtri

    require_unit("wilson_interval", "level", level)
    k, rows = np.asarray(successes, np.float64), np.asarray(n, np.float64)
    # Sums of shared outcomes are off by a rounding.
    if not bool(((k >= -1e-9) & (k <= rows + 1e-9)).all()):
        remedy = "Pass the number of successes, not their share"
        raise RangeError.of("wilson_interval", "successes", "lie in [0, n]", successes, remedy)
    z = float(ndtri((1 + level) / 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        half = z * np.sqrt(np.clip(k * (rows - k), 0, None) / rows + z**2 / 4)
        middle = k + z**2 / 2
        low, high = (middle - half) / (rows + z**2), (middle + half) / (rows + z**2)
    return np.clip(low, 0, 1), np.clip(high, 0, 1)


def share_interval(hits: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Share of rows with its exact binomial interval, such as accuracy or coverage.

    Clopper-Pearson: the p for which neither P(K <= k) nor P(K >= k) is below (1 - level) / 2.
    It covers with at least its level for every N and p, also where all rows are hits.

    Args:
        hits: One where the row counts, else zero, shape (N,) or (N, D). Several outputs count
            as one row with the share of its hits, since they may depend on each other.
        level: Coverage of the interval, in (0, 1).

    Returns:
        The share with its interval; method "clopper-pearson".

    Raises:
        ShapeError: If there are no rows.
        NonFiniteError: If a value is NaN or infinite.
        RangeError: If a value lies outside [0, 1], or `level` outside (0, 1).

    Source:
        Clopper & Pearson (1934), The use of confidence or fiducial limits.

    Example:
        >>> print(share_interval([1] * 20))  # 0.025^(1/20)
        1.00 [0.83, 1.00]
    """
    (rows,) = _take_hits("share_interval", level, hits=hits)
    return share_estimate(rows, level)


def share_difference(hits_a: ArrayLike, hits_b: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Difference of two shares over the same rows, such as the accuracies of two models.

    Tango's score interval: the d for which |b - c - N d| <= z sqrt(N (2 q + d (1 - d))), with b
    rows hit by the first alone, c by the second alone, and q the maximum likelihood estimate of
    the chance of c given d. It leaves out 0 exactly where McNemar's test rejects, whose false
    alarm rate is at most 5.4 % at level 95 % for every N, and has width where no row differs.

    Args:
        hits_a: One where the first counts, else zero, shape (N,) or (N, D).
        hits_b: The same for the second, over the same rows.
        level: Coverage of the interval, in (0, 1).

    Returns:
        The first share minus the second with its interval; method "tango".

    Raises:
        ShapeError: If the two differ in shape or hold no rows.
        NonFiniteError: If a value is NaN or infinite.
        RangeError: If a value lies outside [0, 1], or `level` outside (0, 1).

    Source:
        Tango (1998), Equivalence test and confidence interval for the difference in
        proportions for the paired-sample design; its error rates for small N: Fagerland,
        Lydersen & Laake (2013).

    Example:
        >>> print(share_difference([1] * 20, [1] * 20))  # -+ z^2 / (N + z^2)
        0.00 [-0.16, 0.16]
    """
    first, second = _take_hits("share_difference", level, hits_a=hits_a, hits_b=hits_b)
    return share_difference_estimate(first, second, level)


def _take_hits(function: str, level: float, **hits: ArrayLike) -> list[Float64]:
    """Take zeros and ones as one share per row, (N,)."""
    require_unit(function, "level", level)
    _, values = take(function, **hits)
    names = list(hits)
    for name, value in zip(names, values, strict=True):
        require_rows(function, name, value)
        require_same_shape(function, name, value, values[0], to=names[0])
        require_finite(function, axis=0, **{name: value})
        if bool(((value < 0) | (value > 1)).any()):
            found, remedy = f"a value of {float(value.max()):g}", "Pass zeros and ones"
            raise RangeError.of(function, name, "lie in [0, 1]", found, remedy)
    return [float64(row_means(value)) for value in values]


def share_estimate(rows: Float64, level: float) -> Estimate:
    """Exact interval of the mean of shares (N,)."""
    from scipy.special import betaincinv

    n, k, tail = rows.size, float(rows.sum()), (1 - level) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k > 0 else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    error = math.sqrt(k / n * (1 - k / n) / n)
    return Estimate(k / n, low, high, error, level, n, "clopper-pearson")


def share_difference_estimate(first: Float64, second: Float64, level: float) -> Estimate:
    """Tango's interval of the difference of two means of shares (N,)."""
    from scipy.optimize import brentq
    from scipy.special import ndtri

    n, difference = first.size, first - second
    alone = float(np.clip(difference, 0, None).sum()), float(np.clip(-difference, 0, None).sum())
    z, value = float(ndtri((1 + level) / 2)), float(difference.mean())

    def excess(d: float) -> float:
        """Squared score statistic of a difference d, minus z^2, times its variance."""
        return (alone[0] - alone[1] - n * d) ** 2 - z**2 * _score_variance(d, *alone, n)

    # Just off the value, where the variance of equal rows is no longer 0.
    starts = {end: value + 1e-9 * (end - value) for end in (-1.0, 1.0)}
    ends = [
        value if value == end else float(brentq(excess, start, end))
        for end, start in starts.items()
    ]
    error = float(difference.std()) / math.sqrt(n)
    return Estimate(value, min(ends), max(ends), error, level, n, "tango")


def _score_variance(d: float, b: float, c: float, n: int) -> float:
    """Variance of b - c given a difference d, with the chance of c at its maximum likelihood."""
    linear = (2 * n - b + c) * d - b - c
    root = math.sqrt(max(0.0, linear**2 + 8 * n * c * d * (1 - d)))
    return max(0.0, n * (2 * (root - linear) / (4 * n) + d * (1 - d)))
