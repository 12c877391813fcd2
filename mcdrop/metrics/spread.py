"""Calibration of predicted standard deviations: binned variances against squared errors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from mcdrop.checks import (
    require_choice,
    require_count,
    require_finite,
    require_rows,
    require_same_shape,
    require_spread,
)
from mcdrop.metrics._arrays import ArrayLike, Float64, float64, take
from mcdrop.metrics._bins import Binning, quantile_sums, uniform_sums
from mcdrop.metrics._reduction import Reduction, finished


def _by_variance(
    function: str,
    arrays: tuple[ArrayLike, ArrayLike, ArrayLike],
    end: Callable[[Float64], float],
    *,
    n_bins: int,
    binning: str,
    zero: bool,
) -> Reduction[float]:
    """Reduce to (variance, squared error) of each row; `end` takes their sums over bins."""
    require_count(function, "n_bins", n_bins)
    require_choice(function, "binning", binning, ("uniform", "quantile"))
    mean, std, y = arrays
    _, (center, spread, target) = take(function, mean=mean, std=std, y=y)
    require_rows(function, "y", target)
    require_same_shape(function, "mean", center, target)
    require_same_shape(function, "std", spread, target)
    require_finite(function, mean=center, std=spread, y=target)
    require_spread(function, "std", spread, zero=zero)
    columns = [float64(spread.square().flatten()), float64((center - target).square().flatten())]
    finish = partial(_end, end=end, n_bins=n_bins, binning=binning)
    return Reduction(np.stack(columns), finish, additive=False)


def _end(columns: Float64, end: Callable[[Float64], float], n_bins: int, binning: str) -> float:
    variance, squared_error = columns
    rows = np.ones_like(variance)
    if binning == "quantile":
        sums, _ = quantile_sums(variance, squared_error, rows, n_bins)
    else:
        edges = np.linspace(variance.min(), variance.max(), n_bins + 1)
        sums = uniform_sums(variance, squared_error, rows, edges)
    return end(sums[:3, sums[0] > 0])


@finished
def expected_normalized_calibration_error(
    mean: ArrayLike,
    std: ArrayLike,
    y: ArrayLike,
    *,
    n_bins: int = 15,
    binning: Binning = "quantile",
) -> Reduction[float]:
    """Expected normalized calibration error (ENCE) of standard deviations; lower is better.

    ENCE = mean over bins of |RMV_b - RMSE_b| / RMV_b, with RMV_b = sqrt(mean std^2) and
    RMSE_b = sqrt(mean (mean - y)^2) over the rows whose std falls in bin b.

    Args:
        mean: Predictive means, shape (N,) or (N, D), units of y.
        std: Predictive standard deviations including observation noise, same shape, above 0.
        y: Targets, same shape.
        n_bins: Number of bins; (N, D) outputs are pooled.
        binning: "quantile" for the sorted rows in equal parts, "uniform" for equal widths
            between the smallest and the largest variance.

    Returns:
        One number without unit, at least 0.

    Raises:
        ShapeError: If the shapes differ or hold no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If a standard deviation is not above 0 or an option outside its choices.

    Source:
        Levi, Gispan, Giladi & Fetaya (2022), Evaluating and calibrating uncertainty
        prediction in regression tasks.

    Example:
        >>> # One bin: errors of 1 and 1 under a std of 2.
        >>> expected_normalized_calibration_error([1.0, 1.0], [2.0, 2.0], [0.0, 2.0], n_bins=1)
        0.5
    """
    return _by_variance(
        "expected_normalized_calibration_error",
        (mean, std, y),
        _normalized_gap,
        n_bins=n_bins,
        binning=binning,
        zero=False,
    )


def _normalized_gap(sums: Float64) -> float:
    spread, error = np.sqrt(sums[1] / sums[0]), np.sqrt(sums[2] / sums[0])
    return float((np.abs(spread - error) / spread).mean())


@finished
def uncertainty_calibration_error(
    mean: ArrayLike,
    std: ArrayLike,
    y: ArrayLike,
    *,
    n_bins: int = 15,
    binning: Binning = "uniform",
) -> Reduction[float]:
    """Uncertainty calibration error (UCE) of predicted variances; lower is better.

    UCE = sum over bins of w_b |mean (mean - y)^2 - mean std^2|, with w_b the share of rows
    whose variance falls in bin b.

    Args:
        mean: Predictive means, shape (N,) or (N, D), units of y.
        std: Predictive standard deviations including observation noise, same shape.
        y: Targets, same shape.
        n_bins: Number of bins; (N, D) outputs are pooled.
        binning: "uniform" for equal widths between the smallest and the largest variance,
            "quantile" for the sorted rows in equal parts.

    Returns:
        One number in squared units of y.

    Raises:
        ShapeError: If the shapes differ or hold no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If a standard deviation is negative or an option outside its choices.

    Source:
        Laves, Ihler, Fast, Kahrs & Ortmaier (2020), Well-calibrated regression
        uncertainty in medical imaging with deep learning.

    Example:
        >>> uncertainty_calibration_error([1.0, 1.0], [2.0, 2.0], [0.0, 2.0])  # |1 - 4|
        3.0
    """
    return _by_variance(
        "uncertainty_calibration_error",
        (mean, std, y),
        _variance_gap,
        n_bins=n_bins,
        binning=binning,
        zero=True,
    )


def _variance_gap(sums: Float64) -> float:
    return float(np.abs(sums[2] - sums[1]).sum() / sums[0].sum())
