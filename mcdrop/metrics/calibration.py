"""Calibration errors over bins of predicted probability."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import numpy as np

from mcdrop.checks import require_choice, require_flag
from mcdrop.errors import RangeError
from mcdrop.metrics._arrays import ArrayLike, Float64
from mcdrop.metrics._bins import Binning, CalibrationKind, binned, take_forecasts
from mcdrop.metrics._reduction import Reduction, finished

Norm = Literal["l1", "l2", "max"]

_KINDS = ("top_label", "classwise", "binary")


@finished
def expected_calibration_error(
    probs: ArrayLike,
    y: ArrayLike,
    *,
    n_bins: int = 15,
    binning: Binning = "uniform",
    norm: Norm = "l1",
    kind: CalibrationKind = "top_label",
    debiased: bool = False,
    weights: ArrayLike | None = None,
) -> Reduction[float]:
    """Expected calibration error over bins of predicted probability; lower is better.

    With w_b the share of rows in bin b and d_b its mean probability minus its observed
    frequency: l1 is sum w_b |d_b|, l2 is sqrt(sum w_b d_b^2), max is the largest |d_b|. Bins
    are (a, b], with 0 in the first and 1 in the last. The plain value is biased upward by up
    to about 0.4 sqrt(B / N), also for a calibrated model. `calibration_error_test` states what
    a calibrated model would show on the same rows.

    Args:
        probs: Class probabilities, shape (N, C); for "binary" P(y = 1), shape (N,).
        y: Class indices, shape (N,); for "binary" zeros and ones.
        n_bins: Number of bins B.
        binning: "uniform" for equal width, "quantile" for the sorted rows in equal parts (rows
            of equal probability share their outcomes evenly).
        norm: "l1", "l2" or "max", as above.
        kind: "top_label" for the confidence in the predicted class, "binary" for P(y = 1),
            "classwise" for each class against the rest: the mean over classes (of the squares
            for l2, the largest for max).
        debiased: Subtract the sampling noise of the observed frequencies. For l2 their
            variance f (1 - f) / (n - 1): the square is then unbiased before it is cut off at
            0. For l1 the mean of a folded normal: for a calibrated model that removes about
            40 % of the bias, since the gaps it starts from are noise themselves, and nearly
            all of it where gaps are several standard errors. Bins of one row are left out,
            and the result is at least 0.
        weights: How much each row counts, shape (N,); not with `debiased`.

    Returns:
        One number, between 0 and 1.

    Raises:
        ShapeError: If `probs` does not match `y`.
        RangeError: If `probs` are not probabilities, `y` not class indices, or an option is
            outside its choices.
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        Naeini et al. (2015); Guo et al. (2017); class-wise: Kull et al. (2019); debiased:
        Kumar, Liang & Ma (2019).

    Example:
        >>> probs = [[0.75, 0.25], [0.75, 0.25], [0.75, 0.25], [0.75, 0.25]]
        >>> expected_calibration_error(probs, [0, 0, 0, 1])  # right three times in four
        0.0
        >>> expected_calibration_error(probs, [0, 0, 1, 1])
        0.25
    """
    function = "expected_calibration_error"
    require_choice(function, "norm", norm, ("l1", "l2", "max"))
    require_choice(function, "kind", kind, _KINDS)
    require_flag(function, "debiased", debiased)
    if debiased and (norm == "max" or weights is not None):
        given = 'norm="max"' if norm == "max" else "weights"
        raise RangeError.of(
            function, "debiased", f"be False with {given}", True, 'Use norm="l2" without weights'
        )
    end = partial(_calibration_error, norm=norm, debiased=debiased)
    forecasts = take_forecasts(function, probs, y, kind, weights)
    return binned(function, forecasts, end, n_bins=n_bins, binning=binning)


@finished
def maximum_calibration_error(
    probs: ArrayLike,
    y: ArrayLike,
    *,
    n_bins: int = 15,
    binning: Binning = "uniform",
    kind: CalibrationKind = "top_label",
) -> Reduction[float]:
    """Largest gap of any bin between mean probability and observed frequency; lower is better.

    MCE = max_b |d_b|, with d_b as in `expected_calibration_error`. A bin of a few rows decides
    it easily; look at the intervals of `reliability_curve`, or take binning="quantile".

    Args:
        probs: Class probabilities, shape (N, C); for "binary" P(y = 1), shape (N,).
        y: Class indices, shape (N,); for "binary" zeros and ones.
        n_bins: Number of bins B.
        binning: As in `expected_calibration_error`.
        kind: As in `expected_calibration_error`; "classwise" takes the largest over classes.

    Returns:
        One number, between 0 and 1.

    Raises:
        ShapeError: If `probs` does not match `y`.
        RangeError: If `probs` are not probabilities, `y` not class indices, or an option is
            outside its choices.
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        Naeini, Cooper & Hauskrecht (2015).

    Example:
        >>> maximum_calibration_error([0.25, 0.75, 0.75], [0, 1, 1], kind="binary")
        0.25
    """
    function = "maximum_calibration_error"
    require_choice(function, "kind", kind, _KINDS)
    end = partial(_calibration_error, norm="max", debiased=False)
    forecasts = take_forecasts(function, probs, y, kind)
    return binned(function, forecasts, end, n_bins=n_bins, binning=binning)


@finished
def kolmogorov_smirnov_calibration_error(
    probs: ArrayLike, y: ArrayLike, *, kind: Literal["top_label", "binary"] = "top_label"
) -> Reduction[float]:
    """Largest cumulative gap between confidence and accuracy, without bins; lower is better.

    KS = max over t of |sum over rows with confidence <= t of (confidence - right)| / N: the
    distance between the cumulative distributions of stated and observed successes.

    Args:
        probs: Class probabilities, shape (N, C); for "binary" P(y = 1), shape (N,).
        y: Class indices, shape (N,); for "binary" zeros and ones.
        kind: "top_label" for the confidence in the predicted class, "binary" for P(y = 1).

    Returns:
        One number, between 0 and 1; above 0 also for a calibrated model, by order 1 / sqrt(N).
        `calibration_test` is the test that goes with it.

    Raises:
        ShapeError: If `probs` does not match `y`.
        RangeError: If `probs` are not probabilities, `y` not class indices, or `kind` is
            neither of the two names.
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        Gupta et al. (2021), Calibration of neural networks using splines.

    Example:
        >>> # .6 from the row at .6, then .6 - .1 with the row at .9, over 2 rows.
        >>> kolmogorov_smirnov_calibration_error([0.6, 0.9], [0, 1], kind="binary")
        0.3
    """
    function = "kolmogorov_smirnov_calibration_error"
    require_choice(function, "kind", kind, ("top_label", "binary"))
    pairs = take_forecasts(function, probs, y, kind)
    return Reduction(np.concatenate([pairs.forecast, pairs.event]), _largest_sum, additive=False)


def _largest_sum(columns: Float64) -> float:
    forecast, event = columns[:, np.argsort(columns[0], kind="stable")]
    last = np.append(np.diff(forecast) > 0, True)
    return float(np.abs(np.cumsum(forecast - event)[last]).max() / forecast.size)


def _calibration_error(sums: Float64, edges: Float64, norm: str, debiased: bool) -> float:
    count, forecast, event, _ = sums.swapaxes(0, 1)
    share = count / count.sum(axis=1, keepdims=True)
    # An empty bin has no gap; debiased, neither has a bin of one row.
    used = count > 1 if debiased else count > 0
    safe = np.where(used, count, 2.0)
    gap = np.where(used, np.abs(forecast - event) / safe, 0.0)
    if norm == "max":
        return float(gap.max())
    frequency = event / safe
    variance = frequency * (1 - frequency) / np.maximum(safe - 1, 1.0)
    noise = np.where(used, variance, 0.0) * debiased
    if norm == "l2":
        return math.sqrt(max(0.0, float((share * (gap**2 - noise)).sum(axis=1).mean())))
    return max(0.0, float((share * (2 * gap - _folded_mean(gap, noise))).sum(axis=1).mean()))


def _folded_mean(gap: Float64, variance: Float64) -> Float64:
    """Mean of |X| for X normal around `gap`: what noise makes of an absolute gap."""
    from scipy.special import erf

    twice = np.where(variance > 0, 2 * variance, 1.0)
    spread = np.sqrt(twice / math.pi) * np.exp(-(gap**2) / twice)
    folded: Float64 = np.where(variance > 0, spread + gap * erf(gap / np.sqrt(twice)), gap)
    return folded
