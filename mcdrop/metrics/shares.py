"""Intervals of shares of rows, which hold where a bootstrap has no width."""

from __future__ import annotations

import numpy as np

from mcdrop.checks import require_unit
from mcdrop.errors import RangeError
from mcdrop.metrics._arrays import ArrayLike, Float64


def wilson_interval(
    successes: ArrayLike | float, n: ArrayLike | float, *, level: float = 0.95
) -> tuple[Float64, Float64]:
    """Wilson interval of the probability behind a share of n independent rows.

    The probabilities p that a two-sided score test of k out of n does not reject,
    |k / n - p| <= z sqrt(p (1 - p) / n):
    (k + z^2 / 2 -+ z sqrt(k (n - k) / n + z^2 / 4)) / (n + z^2). It keeps its width at k = 0 and
    k = n.

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
