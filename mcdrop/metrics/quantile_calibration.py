"""Calibration of predictive quantiles and central intervals at every level."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from mcdrop.checks import as_number, require_choice, require_count, require_unit
from mcdrop.errors import RangeError
from mcdrop.metrics._arrays import ArrayLike, Float64
from mcdrop.metrics._reduction import Reduction, finished
from mcdrop.metrics.pit import take_pit
from mcdrop.metrics.shares import wilson_interval

QuantileKind = Literal["quantile", "interval"]


@dataclass(frozen=True)
class QuantileCalibrationCurve:
    """Observed share of targets against the level of a quantile or central interval.

    Attributes:
        level: Levels, shape (Q,).
        observed: Share of targets below the quantile, or inside the interval, shape (Q,).
        low: Lower end of the Wilson interval of `observed`, shape (Q,).
        high: Upper end of it, shape (Q,).
        n: Number of targets.
    """

    level: Float64
    observed: Float64
    low: Float64
    high: Float64
    n: int


def _shares(
    function: str, pit_values: ArrayLike, n_levels: int, kind: str
) -> tuple[Float64, Float64]:
    """Levels (Q,) and, at the end followed by the number of targets, counts (Q + 1,)."""
    require_count(function, "n_levels", n_levels)
    require_choice(function, "kind", kind, ("quantile", "interval"))
    values = take_pit(function, pit_values)
    levels = np.arange(1, n_levels + 1) / (n_levels + 1)
    depth = values if kind == "quantile" else np.abs(2 * values - 1)
    counts = np.searchsorted(np.sort(depth), levels, side="right")
    return levels, np.append(counts, values.size).astype(np.float64)


@finished
def quantile_calibration_curve(
    pit_values: ArrayLike,
    *,
    n_levels: int = 99,
    kind: QuantileKind = "quantile",
    level: float = 0.95,
) -> Reduction[QuantileCalibrationCurve]:
    """Observed share of targets below each predictive quantile; on the diagonal is best.

    observed(q) = mean of 1[u <= q], or for intervals mean of 1[|2 u - 1| <= q], with u the
    PIT value and q = k / (n_levels + 1).

    Args:
        pit_values: From `pit`, `pit_normal` or `pit_mixture`, shape (N,) or (N, D).
        n_levels: Number of levels Q, evenly spaced strictly between 0 and 1.
        kind: "quantile" for shares below the q-quantile, "interval" for shares inside the
            central interval of coverage q.
        level: Coverage of the Wilson interval at each level, in (0, 1).

    Returns:
        The curve with its intervals.

    Raises:
        ShapeError: If there are no values.
        RangeError: If a value lies outside [0, 1] or an option outside its choices.
        NonFiniteError: If a value is NaN or infinite.

    Source:
        Kuleshov, Fenner & Ermon (2018); Wilson (1927) for the intervals.

    Example:
        >>> curve = quantile_calibration_curve([0.1, 0.3, 0.6, 0.9], n_levels=3)
        >>> curve.level, curve.observed
        (array([0.25, 0.5 , 0.75]), array([0.25, 0.5 , 0.75]))
    """
    require_unit("quantile_calibration_curve", "level", level)
    levels, counts = _shares("quantile_calibration_curve", pit_values, n_levels, kind)
    return Reduction(counts, partial(_curve, levels=levels, level=level))


def _curve(counts: Float64, levels: Float64, level: float) -> QuantileCalibrationCurve:
    below, n = counts[:-1], counts[-1]
    low, high = wilson_interval(below, float(n), level=level)
    return QuantileCalibrationCurve(levels, below / n, low, high, round(float(n)))


@finished
def quantile_calibration_error(
    pit_values: ArrayLike,
    *,
    n_levels: int = 99,
    kind: QuantileKind = "quantile",
    norm: Literal["l1", "l2", "max"] = "l1",
) -> Reduction[float]:
    """Mean gap between the level and the observed share of predictive quantiles; lower is better.

    With d_q = observed(q) - q as in `quantile_calibration_curve`: l1 is the mean of |d_q|, l2
    the root mean square, max the largest.

    Args:
        pit_values: From `pit`, `pit_normal` or `pit_mixture`, shape (N,) or (N, D).
        n_levels: Number of levels, evenly spaced strictly between 0 and 1.
        kind: "quantile" for one-sided quantiles, "interval" for central intervals (in which
            errors of opposite sign on the two sides can cancel).
        norm: "l1", "l2" or "max", as above.

    Returns:
        One number between 0 and 1.

    Raises:
        ShapeError: If there are no values.
        RangeError: If a value lies outside [0, 1] or an option outside its choices.
        NonFiniteError: If a value is NaN or infinite.

    Source:
        Kuleshov, Fenner & Ermon (2018) (they report the sum of squares).

    Example:
        >>> quantile_calibration_error([0.5, 0.5], n_levels=3)  # 0, 1 and 1 at 1/4, 1/2, 3/4
        0.3333333333333333
    """
    function = "quantile_calibration_error"
    require_choice(function, "norm", norm, ("l1", "l2", "max"))
    levels, counts = _shares(function, pit_values, n_levels, kind)
    return Reduction(counts, partial(_error, levels=levels, norm=norm))


@finished
def tail_calibration_error(
    pit_values: ArrayLike,
    *,
    tail: float = 0.1,
    side: Literal["lower", "upper", "both"] = "both",
    n_levels: int = 20,
) -> Reduction[float]:
    """Mean gap between the level and the observed share of quantiles in a tail; lower is better.

    Mean over u = 1/Q, 2/Q, ..., 1 of |share of targets beyond the quantile of tail probability
    u tail - u tail| / tail, so that 1 means twice as many targets in the tail as stated, or none
    at all. "both" averages the two sides.

    Args:
        pit_values: From `pit`, `pit_normal` or `pit_mixture`, shape (N,) or (N, D).
        tail: Probability of the tail, in (0, 1/2].
        side: "lower", "upper" or "both".
        n_levels: Number of levels Q in the tail.

    Returns:
        One number without unit, at least 0; above 0 also for a calibrated model, by order
        1 / sqrt(N tail).

    Raises:
        ShapeError: If there are no values.
        RangeError: If a value lies outside [0, 1] or an option outside its choices.
        NonFiniteError: If a value is NaN or infinite.

    Source:
        Allen, Koh, Segers & Ziegel (2024), Tail calibration of probabilistic forecasts, with
        tails by their stated probability.

    Example:
        >>> # Of ten targets two lie in the stated upper tenth, above all its quantiles.
        >>> u = [0.5] * 8 + [1.0] * 2
        >>> round(tail_calibration_error(u, side="upper", n_levels=1), 6)
        1.0
    """
    function = "tail_calibration_error"
    require_count(function, "n_levels", n_levels)
    require_choice(function, "side", side, ("lower", "upper", "both"))
    if not 0 < as_number(tail) <= 0.5:
        raise RangeError.of(function, "tail", "lie in (0, 1/2]", tail, "Pass 0.1 for a tenth")
    values = take_pit(function, pit_values)
    levels = tail * np.arange(1, n_levels + 1) / n_levels
    sides = {"lower": values, "upper": 1 - values}
    depths = list(sides.values()) if side == "both" else [sides[side]]
    counts = [np.searchsorted(np.sort(depth), levels, side="right") for depth in depths]
    kept = np.append(np.concatenate(counts), values.size).astype(np.float64)
    return Reduction(kept, partial(_tail_error, levels=np.tile(levels, len(depths)), tail=tail))


def _tail_error(counts: Float64, levels: Float64, tail: float) -> float:
    return float(np.abs(counts[:-1] / counts[-1] - levels).mean() / tail)


def _error(counts: Float64, levels: Float64, norm: str) -> float:
    gap = np.abs(counts[:-1] / counts[-1] - levels)
    if norm == "max":
        return float(gap.max())
    return float(gap.mean()) if norm == "l1" else math.sqrt(float(np.square(gap).mean()))
