"""The points of a figure, and the groups of rows behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Curve", "Float64", "equal_groups", "group_number", "rank_centers"]

Float64 = npt.NDArray[np.float64]

_MAX_GROUPS = 10
# With fewer rows a group's error rate or RMSE has a relative error above about 1 / sqrt(2 * 20).
_ROWS_PER_GROUP = 20


@dataclass(frozen=True)
class Curve:
    """The points of one method in one figure, in the units of the figure's axes.

    Attributes:
        method: Name of the method.
        x: Position of each point.
        y: Height of each point.
        low: Lower end of the interval of each point; empty if the figure has none.
        high: Upper end of it.
        count: Rows (times outputs) behind each point; empty if all points share all rows.
        calibrated_low: Lower end of the range of y if the method is calibrated; empty if the figure
            shows none.
        calibrated_high: Upper end of it.
        stated: What the method states for the height of each point; empty if that is the axis.
        unit: Of the heights: "share", "units of y" or "score".
    """

    method: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    count: tuple[int, ...] = ()
    calibrated_low: tuple[float, ...] = ()
    calibrated_high: tuple[float, ...] = ()
    stated: tuple[float, ...] = ()
    unit: Literal["share", "units of y", "score"] = "share"


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


def rank_centers(groups: list[npt.NDArray[np.intp]]) -> tuple[float, ...]:
    """Return the middle of each group on a scale of ranks from 0 to 1."""
    sizes = np.array([len(group) for group in groups], dtype=np.float64)
    ends = np.cumsum(sizes)
    return tuple(((ends - sizes / 2) / ends[-1]).tolist())
