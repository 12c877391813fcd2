"""Error rate against predicted uncertainty, and the calibration error between the two."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from mcdrop.checks import (
    require_count,
    require_finite,
    require_labels,
    require_rows,
    require_same_shape,
    require_unit,
)
from mcdrop.metrics._arrays import ArrayLike, Float64, float64, take
from mcdrop.metrics._bins import Binning, Forecasts, binned, quantile_sums
from mcdrop.metrics._probs import take_probs
from mcdrop.metrics._reduction import Reduction, finished
from mcdrop.metrics.shares import wilson_interval


@dataclass(frozen=True)
class ErrorRateCurve:
    """Error rate against uncertainty in B bins of equally many rows; NaN where one is empty.

    Attributes:
        edges: Bin edges, shape (B + 1,).
        uncertainty: Mean uncertainty of each bin, shape (B,).
        error_rate: Share of wrong predictions of each bin, shape (B,).
        count: Rows in each bin, shape (B,).
        low: Lower end of the Wilson interval of the error rate, shape (B,).
        high: Upper end of it, shape (B,).
        level: Coverage of these intervals.
    """

    edges: Float64
    uncertainty: Float64
    error_rate: Float64
    count: npt.NDArray[np.int64]
    low: Float64
    high: Float64
    level: float


@finished
def error_rate_curve(
    uncertainty: ArrayLike, is_error: ArrayLike, *, n_bins: int = 10, level: float = 0.95
) -> Reduction[ErrorRateCurve]:
    """Error rate against any uncertainty score; it rises if the score ranks errors.

    The rows sorted by uncertainty are split into B equal parts, with the mean uncertainty and
    the share of errors of each.

    Args:
        uncertainty: Any score, such as predictive entropy or mutual information, shape (N,).
        is_error: One where the prediction is wrong, else zero, shape (N,).
        n_bins: Number of bins B.
        level: Coverage of the Wilson interval of each bin, in (0, 1).

    Returns:
        The curve with its counts and intervals.

    Raises:
        ShapeError: If the shapes differ or hold no rows.
        RangeError: If `is_error` is not zero or one, or an option is outside its range.
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        Laves et al. (2019), Well-calibrated model uncertainty with temperature scaling for
        dropout variational inference (the diagram); Wilson (1927) for the intervals.

    Example:
        >>> curve = error_rate_curve([0.1, 0.2, 0.6, 0.7], [0, 0, 1, 0], n_bins=2)
        >>> curve.error_rate
        array([0. , 0.5])
    """
    function = "error_rate_curve"
    require_count(function, "n_bins", n_bins)
    require_unit(function, "level", level)
    _, (score, wrong) = take(function, uncertainty=uncertainty, is_error=is_error)
    require_rows(function, "is_error", wrong)
    require_same_shape(function, "uncertainty", score, wrong, to="is_error")
    require_finite(function, uncertainty=score, is_error=wrong)
    require_labels(function, "is_error", wrong, 2)
    columns = np.stack([float64(score.flatten()), float64(wrong.flatten())])
    return Reduction(columns, partial(_curve, n_bins=n_bins, level=level), additive=False)


def _curve(columns: Float64, n_bins: int, level: float) -> ErrorRateCurve:
    score, wrong = columns
    sums, edges = quantile_sums(score, wrong, np.ones_like(score), n_bins)
    count, total, errors, _ = sums
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of an empty bin
        mean, rate = total / count, errors / count
    low, high = wilson_interval(errors, count, level=level)
    rows = np.rint(count).astype(np.int64)
    return ErrorRateCurve(edges, mean, rate, rows, low, high, level)


@finished
def entropy_calibration_error(
    probs: ArrayLike, y: ArrayLike, *, n_bins: int = 15, binning: Binning = "uniform"
) -> Reduction[float]:
    """Gap between normalized predictive entropy and error rate; lower is better.

    With H = -sum_c probs_c log probs_c / log C in bins, sum over bins of
    w_b |error rate_b - mean H_b|: the classification form of the uncertainty calibration
    error. Perfect probabilities do not bring it to 0, since the error rate they imply,
    1 - max_c probs_c, is not H; compare models with it, and see `error_rate_curve`.

    Args:
        probs: Class probabilities, shape (N, C).
        y: Class indices, shape (N,).
        n_bins: Number of bins.
        binning: "uniform" for equal widths of H on [0, 1], "quantile" for the sorted rows in
            equal parts.

    Returns:
        One number, between 0 and 1.

    Raises:
        ShapeError: If `probs` does not match `y`.
        RangeError: If `probs` are not probabilities, `y` not class indices, or an option is
            outside its choices.
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        Laves, Ihler, Kortmann & Ortmaier (2019).

    Example:
        >>> entropy_calibration_error([[0.5, 0.5], [0.5, 0.5]], [0, 1])  # |1/2 - 1|
        0.5
    """
    function = "entropy_calibration_error"
    origin, p, labels = take_probs(function, probs, y, kind="multiclass")
    entropy = torch.special.entr(p).sum(dim=1) / math.log(p.shape[1])
    wrong = (p.argmax(dim=1) != labels).to(p.dtype)
    ones = np.ones(len(labels))
    forecasts = Forecasts(float64(entropy)[None], float64(wrong)[None], ones, origin.dtype)
    return binned(function, forecasts, _mean_gap, n_bins=n_bins, binning=binning)


def _mean_gap(sums: Float64, edges: Float64) -> float:
    count, entropy, wrong, _ = sums[0]
    return float(np.abs(wrong - entropy).sum() / count.sum())
