"""A number with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A number and its interval over rows.

    Attributes:
        value: The metric on the rows given.
        low: Lower end of the interval.
        high: Upper end of the interval.
        standard_error: Of the value: from the spread of the rows or, for "percentile", "basic"
            and "bca", of the resamples.
        level: Coverage the interval aims at.
        n: Number of rows.
        method: How the interval was taken: "clopper-pearson" (shares), "tango" (differences of
            shares), "skew-adjusted t" (means and their differences), "beta" (share above an order
            statistic), "percentile", "basic" or "bca" (bootstrap).

    Example:
        >>> print(Estimate(0.1234, 0.1011, 0.1502, 0.0125, 0.95, 400, "bca"))
        0.123 [0.101, 0.150]
    """

    value: float
    low: float
    high: float
    standard_error: float
    level: float
    n: int
    method: str

    def __str__(self) -> str:
        width = self.high - self.low
        if not math.isfinite(width) or width <= 0 or not 1e-7 < width < 1e7:
            return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"
        # Two digits of the interval's width: more would print noise.
        digits = max(0, 1 - math.floor(math.log10(width)))
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"
