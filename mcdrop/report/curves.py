"""Groups of rows for the points of the figures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Float64", "equal_groups", "group_number"]

Float64 = npt.NDArray[np.float64]

_MAX_GROUPS = 10
# With fewer rows a group's error rate or RMSE has a relative error above about 1 / sqrt(2 * 20).
_ROWS_PER_GROUP = 20


def group_number(n: int) -> int:
    """Number of groups that `n` values are split into: at most 10, of at least 20 values."""
    return int(np.clip(n // _ROWS_PER_GROUP, 1, _MAX_GROUPS))


def equal_groups(values: Float64) -> list[npt.NDArray[np.intp]]:
    """Split rows, sorted by `values`, into at most 10 groups of nearly equal size.

    Rows of equal value never come apart, so a constant gives one group.
    """
    order = np.argsort(values, kind="stable")
    wanted = (
        np.linspace(0, len(values), group_number(len(values)) + 1)[1:-1].round().astype(np.int64)
    )
    ranked = values[order]
    # Tolerance: a constant that went through float32 arithmetic is still a constant.
    jumps = np.diff(ranked) > 1e-6 * np.abs(ranked).max(initial=0.0)
    allowed = np.flatnonzero(jumps) + 1
    if not len(allowed):
        return [order]
    nearest = allowed[np.abs(allowed[None, :] - wanted[:, None]).argmin(axis=1)]
    parts = np.split(order, np.unique(nearest))
    return [part for part in parts if len(part) > 1]
