"""Student's interval beside the normal one, without SciPy: that takes longer to load."""

from __future__ import annotations

from functools import cache
from math import cos, pi, sin, sqrt

import numpy as np

__all__ = ["widening"]

# The normal distribution's quantile of 97.5 %.
_NORMAL = 1.959963984540054
_CONFIDENCE = 0.95


@cache
def widening(degrees: int) -> float:
    """Return the half-width of Student's 95 % interval over that of the normal one.

    Args:
        degrees: Degrees of freedom; fewer than 1 count as 1.
    """
    degrees = max(1, degrees)
    # The tangent of the angle is t / sqrt(degrees).
    low, high = 0.0, pi / 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _within(middle, degrees) < _CONFIDENCE else (low, middle)
    return sqrt(degrees) * sin(low) / cos(low) / _NORMAL


def _within(angle: float, degrees: int) -> float:
    """Return the probability of |T| <= sqrt(degrees) tan(angle).

    Source: Abramowitz & Stegun (1964), 26.7.3 and 26.7.4.
    """
    odd = degrees % 2
    # Each term of the series is the one before times cos^2 (j - 1) / j, with j = 2, 4, ... for even
    # degrees and j = 3, 5, ... for odd ones.
    steps = np.arange(2, degrees - 1, 2) + odd
    factors = (steps - 1) / steps * cos(angle) ** 2
    series = 1 + float(np.cumprod(factors).sum())
    if not odd:
        return sin(angle) * series
    return 2 / pi * (angle + sin(angle) * cos(angle) * series * (degrees > 1))
