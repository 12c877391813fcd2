"""Intervals of any metric, and of the difference between two models."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from mcdrop.errors import ShapeError
from mcdrop.metrics._arrays import ArrayLike, Float64
from mcdrop.metrics._reduction import RowMean
from mcdrop.metrics._resampling import BootstrapMethod, Resampler, Statistic, statistic
from mcdrop.metrics.estimate import Estimate
from mcdrop.metrics.means import mean_estimate, root_estimate
from mcdrop.metrics.shares import share_difference_estimate, share_estimate


def bootstrap(
    metric: Callable[..., Any],
    *arrays: ArrayLike,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
    method: BootstrapMethod = "auto",
    row_axes: Sequence[int] | None = None,
) -> Estimate:
    """Estimate a metric with its interval over rows.

    Rows are drawn with replacement, N of N, by a generator of its own. A metric that returns
    one score per row is called once and the mean of its scores is resampled; one that returns
    a number is called on every resample.

    Args:
        metric: Takes `arrays` and returns scores (N, ...) or a number. Fix its options with
            functools.partial or a lambda.
        *arrays: What the metric takes, NumPy or torch, with N rows each.
        level: Coverage of the interval, in (0, 1).
        n_resamples: Number of resamples.
        seed: Seed of the draws; the same seed draws the same rows for any metric.
        method: "percentile" for the quantiles of the resampled values, "basic" for their
            reflection about the value, "bca" for quantiles corrected for bias and skewness.
            "auto" resamples only where nothing better is known: shares (`accuracy`, `coverage`,
            scores of zeros and ones) get `share_interval`, means over rows (scores, `rmse`,
            `mae`, `sharpness`) `mean_interval`, both of which hold for few rows. Other numbers
            get "bca", except where more than 84 % of the resamples lie on one side of the
            value, as for a plain calibration error near 0: there quantiles point away from the
            truth and "basic" is taken; and where a resample is infinite: "percentile". The
            estimate names the one used.
        row_axes: Axis of the rows in each array, 0 by default; (1, 0) for samples (S, N), y.
            Not needed where the metric returns one score per row.

    Returns:
        The value with its interval and standard error.

    Raises:
        ShapeError: If the arrays differ in their number of rows, or there are fewer than 2.
        NonFiniteError: If the metric is NaN for some row or resample.
        UnsupportedError: If the metric returns neither scores nor a number.
        RangeError: If an option is outside its choices.

    Source:
        Efron & Tibshirani (1993), chapters 13 and 14; Davison & Hinkley (1997).

    Example:
        >>> import numpy as np
        >>> from mcdrop.metrics import mae
        >>> y = np.arange(100.0)
        >>> bootstrap(mae, y + 1.0, y)  # every error is 1
        Estimate(value=1.0, low=1.0, high=1.0, standard_error=0.0, level=0.95, n=100,
                 method='skew-adjusted t')
    """
    resampler = Resampler("bootstrap", level, n_resamples, seed, method)
    found = statistic("bootstrap", metric, arrays, row_axes)
    if method == "auto" and found.row_mean is not None:
        return _closed_form(found.row_mean, level)
    return _resampled(resampler, found)


def paired_bootstrap(
    metric: Callable[..., Any],
    arrays_a: Sequence[ArrayLike],
    arrays_b: Sequence[ArrayLike],
    *,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
    method: BootstrapMethod = "auto",
    row_axes: Sequence[int] | None = None,
) -> Estimate:
    """Estimate metric(a) - metric(b) on the same rows, with its interval.

    Both models see the same resampled rows, so what makes a row hard for both cancels. An
    interval that leaves out 0 says the models differ.

    Args:
        metric: As in `bootstrap`.
        arrays_a: What the metric takes for the first model, such as (mean_a, std_a, y).
        arrays_b: The same for the second model, with the same rows.
        level: Coverage of the interval, in (0, 1).
        n_resamples: Number of resamples.
        seed: Seed of the draws.
        method: As in `bootstrap`; "auto" takes `share_difference` for shares and, for means and
            their roots, `mean_difference` (of linearized rows for roots).
        row_axes: As in `bootstrap`, for the arrays of one model.

    Returns:
        The difference with its interval and standard error; below 0 the first is smaller.

    Raises:
        ShapeError: If the two models differ in their number of rows, or there are fewer than 2.
        NonFiniteError: If the metric is NaN for some row or resample.
        UnsupportedError: If the metric returns neither scores nor a number.
        RangeError: If an option is outside its choices.

    Source:
        Efron & Tibshirani (1993), chapter 8.

    Example:
        >>> import numpy as np
        >>> from mcdrop.metrics import mae
        >>> y = np.arange(100.0)
        >>> print(paired_bootstrap(mae, (y + 1, y), (y - 3, y)).value)
        -2.0
    """
    function = "paired_bootstrap"
    resampler = Resampler(function, level, n_resamples, seed, method)
    first = statistic(function, metric, arrays_a, row_axes)
    second = statistic(function, metric, arrays_b, row_axes)
    if first.n != second.n:
        remedy = "Score both models on the same rows"
        raise ShapeError.of(function, "arrays_b", f"hold {first.n} rows", second.n, remedy)
    if method == "auto" and first.row_mean is not None and second.row_mean is not None:
        return _closed_form_difference(first.row_mean, second.row_mean, level)
    return _resampled(resampler, first.minus(second))


def _closed_form(of: RowMean, level: float) -> Estimate:
    estimates = {"mean": mean_estimate, "root": root_estimate, "share": share_estimate}
    return estimates[of.kind](of.rows, level)


def _closed_form_difference(a: RowMean, b: RowMean, level: float) -> Estimate:
    if a.kind == "share":
        return share_difference_estimate(a.rows, b.rows, level)
    return mean_estimate(_linearized(a) - _linearized(b), level)


def _linearized(of: RowMean) -> Float64:
    """Rows whose mean is the summary and whose spread is that of the summary to first order."""
    mean = float(of.rows.mean())
    if of.kind != "root" or mean == 0:
        return of.rows
    linear: Float64 = math.sqrt(mean) + (of.rows - mean) / (2 * math.sqrt(mean))
    return linear


def _resampled(resampler: Resampler, found: Statistic) -> Estimate:
    low, high, error, method = resampler.interval(found)
    return Estimate(found.value, low, high, error, resampler.level, found.n, method)
