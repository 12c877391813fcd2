"""Smooth calibration error: no bins, and a bandwidth that the data choose."""

from __future__ import annotations

from typing import Literal

import numpy as np

from mcdrop.checks import require_choice
from mcdrop.metrics._arrays import ArrayLike, Float64
from mcdrop.metrics._bins import take_forecasts
from mcdrop.metrics._reduction import Reduction, finished

# Cells of the grid: at a bandwidth of 0.01 the error is one part in 10^5, at 0.001 in 10^3.
_CELLS = 8192


@finished
def smooth_calibration_error(
    probs: ArrayLike, y: ArrayLike, *, kind: Literal["top_label", "binary"] = "top_label"
) -> Reduction[float]:
    """Smooth expected calibration error (smECE): no bins to choose; lower is better.

    With forecast f, event y and K_s the Gaussian kernel of bandwidth s reflected at 0 and 1,
    r_s(t) = mean over rows of (y - f) K_s(t, f) and smECE_s = integral over [0, 1] of |r_s(t)|.
    The value is the one s with smECE_s = s: it falls in s, so there is exactly one.

    Args:
        probs: Class probabilities, shape (N, C); for "binary" P(y = 1), shape (N,).
        y: Class indices, shape (N,); for "binary" zeros and ones.
        kind: "top_label" for the confidence in the predicted class and whether it is right,
            "binary" for P(y = 1) and y.

    Returns:
        One number between 0 and 1, which is also the bandwidth.

    Raises:
        ShapeError: If `probs` does not match `y`.
        RangeError: If `probs` are not probabilities, `y` not class indices, or `kind` is
            neither of the two names.
        NonFiniteError: If an array holds NaN or infinity.

    Source:
        Blasiok & Nakkiran (2023), Smooth ECE: principled reliability diagrams via kernel
        smoothing.

    Example:
        >>> smooth_calibration_error([0.0, 1.0], [0, 1], kind="binary")
        0.0
        >>> round(smooth_calibration_error([0.7] * 4, [1, 1, 0, 0], kind="binary"), 3)
        0.2
    """
    function = "smooth_calibration_error"
    require_choice(function, "kind", kind, ("top_label", "binary"))
    pairs = take_forecasts(function, probs, y, kind)
    forecast, residual = pairs.forecast[0], pairs.event[0] - pairs.forecast[0]
    # Each residual is split between the two nearest cell centers; past the ends it reflects.
    position = np.clip(forecast, 0, 1) * _CELLS - 0.5
    left = np.floor(position)
    share = position - left
    mass = np.zeros(_CELLS)
    for cell, part in ((left, 1 - share), (left + 1, share)):
        index = np.clip(cell, 0, _CELLS - 1).astype(np.int64)
        mass += np.bincount(index, part * residual, _CELLS)
    return Reduction(np.append(mass, forecast.size), _fixed_point)


def _fixed_point(kept: Float64) -> float:
    from scipy.fft import dct, idct
    from scipy.optimize import brentq

    # The cosine transform turns smoothing with a reflected Gaussian into a product.
    waves = dct(kept[:-1] / kept[-1], norm="ortho")
    decay = -0.5 * np.square(np.pi * np.arange(waves.size))

    def excess(bandwidth: float) -> float:
        smoothed = idct(waves * np.exp(decay * bandwidth**2), norm="ortho")
        return float(np.abs(smoothed).sum()) - bandwidth

    return 0.0 if excess(0.0) <= 0 else float(brentq(excess, 0.0, 2.0))
