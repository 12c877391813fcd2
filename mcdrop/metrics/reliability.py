"""Reliability curve: observed frequency against predicted probability, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from mcdrop.checks import require_choice, require_unit
from mcdrop.metrics._arrays import ArrayLike, Float64
from mcdrop.metrics._bins import (
    Binning,
    binned,
    take_forecasts,
)
from mcdrop.metrics._reduction import Reduction, finished
from mcdrop.metrics.shares import wilson_interval


@dataclass(frozen=True)
class ReliabilityCurve:
    """Predicted against observed frequency in B bins; NaN where a bin is empty.

    Attributes:
        edges: Bin edges, shape (B + 1,); bin b holds probabilities in (edges[b], edges[b + 1]].
        confidence: Mean predicted probability of each bin, shape (B,).
        accuracy: Observed frequency of each bin, shape (B,).
        count: Rows in each bin, shape (B,).
        low: Lower end of the Wilson interval of the observed frequency, shape (B,).
        high: Upper end of it, shape (B,).
        level: Coverage of these intervals.
    """

    edges: Float64
    confidence: Float64
    accuracy: Float64
    count: npt.NDArray[np.int64]
    low: Float64
    high: Float64
    level: float


@finished
def reliability_curve(
    probs: ArrayLike,
    y: ArrayLike,
    *,
    n_bins: int = 15,
    binning: Binning = "uniform",
    kind: Literal["top_label", "binary"] = "top_label",
    level: float = 0.95,
) -> Reduction[ReliabilityCurve]:
    """Observed frequency against predicted probability in bins; on the diagonal is best.

    Bins are (a, b], with 0 in the first and 1 in the last. Each observed frequency k / n has a
    Wilson interval: (k + z^2 / 2 -+ z sqrt(k (n - k) / n + z^2 / 4)) / (n + z^2).

    Args:
        probs: Class probabilities, shape (N, C); for "binary" P(y = 1), shape (N,).
        y: Class indices, shape (N,); for "binary" zeros and ones.
        n_bins: Number of bins B.
        binning: "uniform" for equal width, "quantile" for equal numbers of rows.
        kind: "top_label" for the confidence in the predicted class and whether it is right,
            "binary" for P(y = 1) and y. For one class c of several: probs[:, c], y == c.
        level: Coverage of the interval of each bin, in (0, 1).

    Returns:
        The curve with its edges, counts and intervals.

    Raises:
        ShapeError: If `probs` does not match `y`.
        RangeError: If `probs` are not probabilities, `y` not class indices, or an option is
            outside its choices.
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        Murphy & Winkler (1977); Wilson (1927) for the intervals.

    Example:
        >>> curve = reliability_curve([0.2, 0.2, 0.9], [0, 1, 1], n_bins=2, kind="binary")
        >>> curve.confidence, curve.accuracy
        (array([0.2, 0.9]), array([0.5, 1. ]))
    """
    function = "reliability_curve"
    require_choice(function, "kind", kind, ("top_label", "binary"))
    require_unit(function, "level", level)
    end = partial(_curve, level=level)
    forecasts = take_forecasts(function, probs, y, kind)
    return binned(function, forecasts, end, n_bins=n_bins, binning=binning)


def _curve(sums: Float64, edges: Float64, level: float) -> ReliabilityCurve:
    count, forecast, event, _ = sums[0]
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN of an empty bin
        confidence, observed = forecast / count, event / count
    low, high = wilson_interval(event, count, level=level)
    rows = np.rint(count).astype(np.int64)
    return ReliabilityCurve(edges[0], confidence, observed, rows, low, high, level)
