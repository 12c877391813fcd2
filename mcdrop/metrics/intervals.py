"""Prediction intervals and single quantiles: coverage, width and their proper scores."""

from __future__ import annotations

import torch

from mcdrop.checks import require_finite, require_rows, require_same_shape, require_unit, rows_text
from mcdrop.errors import RangeError
from mcdrop.metrics._arrays import Array, ArrayLike, Origin, row_means, take, take_weights
from mcdrop.metrics._reduction import Reduction, finished, mean_of


@finished
def coverage(
    lower: ArrayLike, upper: ArrayLike, y: ArrayLike, *, weights: ArrayLike | None = None
) -> Reduction[float]:
    """Share of targets inside their closed interval; best when equal to the stated level.

    coverage = mean over rows (and outputs) of 1[lower <= y <= upper].

    Args:
        lower: Lower ends, shape (N,) or (N, D), units of y.
        upper: Upper ends, same shape.
        y: Targets, same shape.
        weights: How much each row counts, shape (N,); equal by default.

    Returns:
        A share between 0 and 1.

    Raises:
        ShapeError: If the shapes differ or hold no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If an upper end lies below its lower end.

    Source:
        Gneiting, Balabdaoui & Raftery (2007).

    Example:
        >>> coverage([0.0, 0.0], [1.0, 1.0], [1.0, 2.0])
        0.5
    """
    _, low, high, target = take_interval("coverage", lower, upper, y)
    inside = ((low <= target) & (target <= high)).to(low.dtype)
    return mean_of(row_means(inside), take_weights("coverage", weights, low), "share")


def take_interval(
    function: str, lower: ArrayLike, upper: ArrayLike, y: ArrayLike
) -> tuple[Origin, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Take the ends of intervals, in order, and the targets."""
    origin, (low, high, target) = take(function, lower=lower, upper=upper, y=y)
    require_rows(function, "y", target)
    require_same_shape(function, "lower", low, target)
    require_same_shape(function, "upper", high, target)
    require_finite(function, lower=low, upper=high, y=target)
    if bool((high < low).any()):
        raise RangeError.of(
            function,
            "upper",
            "be at least `lower`",
            f"a crossed interval in {rows_text(high < low)}",
            "Sort the two ends",
        )
    return origin, low, high, target


def interval_score(lower: ArrayLike, upper: ArrayLike, y: ArrayLike, *, level: float) -> Array:
    """Interval score of a central interval; lower is better.

    IS = (upper - lower) + 2/a (lower - y)+ + 2/a (y - upper)+, a = 1 - level: the width, plus
    2 / a times the distance by which the target lies outside.

    Args:
        lower: Quantile at (1 - level) / 2, shape (N,) or (N, D), units of y.
        upper: Quantile at (1 + level) / 2, same shape.
        y: Targets, same shape.
        level: Central coverage the interval claims, in (0, 1).

    Returns:
        One score per target in units of y, in the shape, kind and dtype of the prediction.

    Raises:
        ShapeError: If the shapes differ or hold no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If `level` is outside (0, 1) or an interval is crossed.

    Source:
        Gneiting & Raftery (2007), equation 43.

    Example:
        >>> interval_score([0.0], [1.0], [2.0], level=0.5)  # 1 + 2 / 0.5 * 1
        array([5.])
    """
    require_unit("interval_score", "level", level)
    origin, low, high, target = take_interval("interval_score", lower, upper, y)
    miss = (low - target).clamp_min(0) + (target - high).clamp_min(0)
    return origin.restore(high - low + 2 / (1 - level) * miss)


def interval_width(lower: ArrayLike, upper: ArrayLike) -> Array:
    """Width of each prediction interval; narrower is sharper, good only if also calibrated.

    width = upper - lower.

    Args:
        lower: Lower ends, shape (N,) or (N, D), units of y.
        upper: Upper ends, same shape.

    Returns:
        One width per target in units of y, in the shape, kind and dtype of the prediction.

    Raises:
        ShapeError: If the shapes differ or hold no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If an upper end lies below its lower end.

    Source:
        Gneiting, Balabdaoui & Raftery (2007).

    Example:
        >>> interval_width([0.0, 1.0], [1.0, 4.0])
        array([1., 3.])
    """
    origin, low, high, _ = take_interval("interval_width", lower, upper, upper)
    return origin.restore(high - low)


def pinball_loss(quantile: ArrayLike, y: ArrayLike, *, q: float) -> Array:
    """Pinball (quantile) loss of one predicted quantile; lower is better.

    loss = max(q (y - quantile), (q - 1) (y - quantile)). At q = 0.5 it is half the absolute
    error; integrated over q from 0 to 1 it is half the CRPS.

    Args:
        quantile: Predicted quantiles, shape (N,) or (N, D), units of y.
        y: Targets, same shape.
        q: Level of the quantile, in (0, 1).

    Returns:
        One score per target in units of y, in the shape, kind and dtype of the prediction.

    Raises:
        ShapeError: If the shapes differ or hold no rows.
        NonFiniteError: If an array holds NaN or infinity.
        RangeError: If `q` is outside (0, 1).

    Source:
        Koenker & Bassett (1978); Gneiting & Raftery (2007).

    Example:
        >>> pinball_loss([0.0, 0.0], [1.0, -1.0], q=0.75)
        array([0.75, 0.25])
    """
    require_unit("pinball_loss", "q", q)
    origin, (forecast, target) = take("pinball_loss", quantile=quantile, y=y)
    require_rows("pinball_loss", "y", target)
    require_same_shape("pinball_loss", "quantile", forecast, target)
    require_finite("pinball_loss", quantile=forecast, y=target)
    above = target - forecast
    return origin.restore(torch.maximum(q * above, (q - 1) * above))
