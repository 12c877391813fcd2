"""How intervals are made: their level, the bootstrap resamples and the seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mcdrop.metrics import Estimate, bootstrap

__all__ = ["Draws"]


@dataclass(frozen=True)
class Draws:
    """Level of intervals, number of bootstrap resamples and seed."""

    level: float
    n_resamples: int
    seed: int

    def bootstrap(self, metric: Callable[..., Any], *arrays: Any) -> Estimate:
        """Estimate a metric with its interval over rows."""
        return bootstrap(
            metric, *arrays, level=self.level, n_resamples=self.n_resamples, seed=self.seed
        )
