"""The minimum of a function of one positive number."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

_GRID = 33


def positive_minimum(loss: Callable[[float], float], low: float, high: float) -> tuple[float, bool]:
    """Return the minimizer on [low, high] and whether it lies inside, off both ends.

    A grid of logarithms finds the right valley, Brent's method its bottom.
    """
    from scipy.optimize import minimize_scalar

    grid = np.linspace(math.log(low), math.log(high), _GRID)
    best = int(np.argmin([loss(math.exp(point)) for point in grid]))
    if best in (0, _GRID - 1):
        return math.exp(grid[best]), False
    found = minimize_scalar(
        lambda point: loss(math.exp(point)),
        bounds=(grid[best - 1], grid[best + 1]),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return math.exp(float(found.x)), True
