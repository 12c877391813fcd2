"""The minimum of functions of one positive number, found for many such functions at once."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["positive_minimum"]

_CELLS = 32
_GOLDEN = (math.sqrt(5) - 1) / 2
# 0.618^45 = 4e-10 of two cells: finer than the flat bottom of a loss in float64 can be told.
_STEPS = 45


def positive_minimum(
    loss: Callable[[Tensor], Tensor], low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """Minimize elementwise over [low, high], on the scale of logarithms.

    A grid finds the lowest valley, golden section its bottom. SciPy's `minimize_scalar` takes one
    function at a time, its elementwise `find_minimum` came with 1.15 only.

    Args:
        loss: Takes points of the shape of `low`, and returns the loss of each on its own.
        low: Lower ends, positive, float64.
        high: Upper ends, above `low`.

    Returns:
        The minimizers, and whether each lies off the first and last point of the grid.
    """

    def at(logarithms: Tensor) -> Tensor:
        return loss(logarithms.exp())

    left, width = low.log(), (high.log() - low.log()) / _CELLS
    best = torch.stack([at(left + width * cell) for cell in range(_CELLS + 1)]).argmin(dim=0)
    right = left + width * (best + 1).clamp_max(_CELLS)
    left = left + width * (best - 1).clamp_min(0)
    return _golden_section(at, left, right).exp(), (best > 0) & (best < _CELLS)


def _golden_section(loss: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """Minimize elementwise in one valley."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(_STEPS):
        go_left = at_left < at_right
        low, high = torch.where(go_left, low, left), torch.where(go_left, right, high)
        reach = _GOLDEN * (high - low)
        fresh = torch.where(go_left, high - reach, low + reach)
        at_fresh = loss(fresh)
        left, right = torch.where(go_left, fresh, right), torch.where(go_left, left, fresh)
        at_left, at_right = (
            torch.where(go_left, at_fresh, at_right),
            torch.where(go_left, at_left, at_fresh),
        )
    return (low + high) / 2
